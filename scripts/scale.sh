#!/usr/bin/env bash
# `make scale`: do rbuild's time and memory stay in proportion, and bounded, as the work grows? Writes docs/performance.md;
# fails if not.
#
#   scripts/scale.sh [OPTION OF scale.py...]     e.g. --only files, --full for layers of 20 GB
#
# RBUILD  the program (default: the release program, built first)
# TMPDIR  where file systems for it are made: 15 GB, with --full 65 GB; points for which there is no room are left out
#
# Root only. It takes some 20 minutes.
. "$(dirname "$0")/common.sh"
. "$top/scripts/archives.sh"
exec python3 benches/versus/scale.py --archives "$archives" --results "$archives/scale" "$@"
