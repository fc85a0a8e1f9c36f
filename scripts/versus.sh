#!/usr/bin/env bash
# `make versus`: the same work on rbuild, Docker's BuildKit and buildah in one run; writes docs/performance.md.
#
#   scripts/versus.sh [OPTION OF versus.py...]     e.g. --quick, --workloads cached-small,chain, --builders rbuild,docker
#
# RBUILD  the program (default: the release program, built first). Root only. Takes about half an hour without --quick.
. "$(dirname "$0")/common.sh"
cd "$top"
[ "$(id -u)" = 0 ] || exec sudo -E env "PATH=$PATH" "$0" "$@"
scripts/setup.sh test
[ -n "${RBUILD:-}" ] || RBUILD=$(scripts/release.sh)
export RBUILD PYTHONDONTWRITEBYTECODE=1

archives=$target/versus
mkdir -p "$archives"
store=$archives/store
RBUILD_ROOT=$store scripts/bases.sh busybox debian:trixie
RBUILD_ROOT=$store "$RBUILD" tag debian:trixie debian:latest
RBUILD_ROOT=$store "$RBUILD" save -o "$archives/busybox.tar" busybox
RBUILD_ROOT=$store "$RBUILD" save -o "$archives/debian.tar" debian:latest
python3 benches/versus/versus.py --archives "$archives" --json "$archives/results.json" "$@"
