#!/usr/bin/env bash
# `make versus`: the same work on rbuild, Docker's BuildKit and buildah in one run; writes docs/performance.md.
#
#   scripts/versus.sh [OPTION OF versus.py...]     e.g. --quick, --only cached-small,chain, --builders rbuild,docker, --again
#
# RBUILD  the program (default: the release program, built first)
# TMPDIR  where file systems for it are made: 30 GB for all of it, 15 GB with --quick
#
# Root only. On two idle processors it takes some 20 minutes, with --quick some minutes. Ended by Ctrl-C it leaves nothing
# but its results, and goes on from them when it is started again.
. "$(dirname "$0")/common.sh"
. "$top/scripts/archives.sh"
exec python3 benches/versus/versus.py --archives "$archives" --results "$archives/results" "$@"
