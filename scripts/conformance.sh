#!/usr/bin/env bash
# Builds the cases of testdata/conformance with rbuild and compares each image with what BuildKit made of the case.
#
#   scripts/conformance.sh [OPTION OF conform.py...]     e.g. --only 'copy,run/whiteout-*' -v
#   scripts/conformance.sh --reference docker|buildah [OPTION...]
#
# Succeeds if the cases that fail are exactly those of testdata/conformance/known-failures. With --reference, each case
# is built by that builder as well, as Debian has it (scripts/reference.sh), instead of compared with what was recorded;
# with --record besides, rbuild stays out of it and what the builder makes is recorded. Root only.
#
# RBUILD             the program                               (default: the release program, built first)
# RBUILD_LAYERS      form of the layers: auto, erofs, directory (default: auto); the verdicts are the same in each
# RBUILD_TEST_STORE  state directory that has the base images  (default: made first, target/test-store)
. "$(dirname "$0")/common.sh"
cd "$top"
[ "$(id -u)" = 0 ] || exec sudo -E env "PATH=$PATH" "$0" "$@"

if [ -z "${RBUILD:-}" ]; then
  scripts/setup.sh test
  RBUILD=$(scripts/release.sh)
fi
store=${RBUILD_TEST_STORE:-}
if [ -z "$store" ]; then
  store=$target/test-store
  RBUILD=$RBUILD RBUILD_ROOT=$store scripts/bases.sh busybox debian:trixie
fi

reference= record= cases=
options=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --reference) reference=${2:-} ;;
    --record) record=1 ;;
    --cases) cases=$2 ;;
  esac
  shift
done
case $reference in
  "" | docker | buildah) ;;
  *) die "no such reference: \`$reference\`; there are docker and buildah" ;;
esac

# Those of visible/ are of a BuildKit that is newer than any reference here.
[ -z "$record" ] || [ -n "$cases" ] || die "--record wants --cases: what was recorded before is lost"

work=$(mktemp -d)
registry=
finish() {
  [ -z "$reference" ] || scripts/reference.sh stop "$work/reference" || true
  [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

# The harness asks a registry which layers are the bases', so that images on another build of a base can be compared.
printf 'version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0"}\n' \
  "$work/registry" >"$work/registry.yml"
: >"$work/registry.log"
docker-registry serve "$work/registry.yml" >/dev/null 2>"$work/registry.log" </dev/null &
registry=$!
address=
for _ in $(seq 200); do
  address=$(sed -n 's/.*listening on \([0-9.]*:[0-9]*\).*/\1/p' "$work/registry.log")
  [ -z "$address" ] || break
  sleep 0.05
done
[ -n "$address" ] || die "docker-registry does not start: $(cat "$work/registry.log")"
for name in busybox:latest debian:trixie; do
  RBUILD_ROOT=$store "$RBUILD" tag "$name" "$address/library/$name"
  RBUILD_ROOT=$store "$RBUILD" push -q "$address/library/$name" >/dev/null
  RBUILD_ROOT=$store "$RBUILD" rmi "$address/library/$name" >/dev/null
done
bases="busybox=docker-image://$address/library/busybox:latest,debian:trixie=docker-image://$address/library/debian:trixie"

conform() {
  RBUILD=$RBUILD RBUILD_ROOT=$work/state CONFORM_BASES=$bases python3 testdata/conformance/conform.py "$@"
}

if [ -n "$reference" ]; then
  for name in busybox debian:trixie; do
    RBUILD_ROOT=$store "$RBUILD" save -o "$work/${name//:/-}.tar" "$name"
  done
  scripts/reference.sh start "$reference" "$work/reference"
  export CONFORM_BASE_ARCHIVES=$work
  export CONFORM_DOCKER="$top/scripts/reference.sh exec $work/reference docker"
  export BUILDAH="$top/scripts/reference.sh exec $work/reference buildah"
  # buildah wants to raise the limits of what it runs; this process's own are always allowed.
  nofile=$(ulimit -Hn) nproc=$(ulimit -Hu)
  export CONFORM_BUILDAH_FLAGS="--network=host --ulimit nofile=${nofile/unlimited/-1} --ulimit nproc=${nproc/unlimited/-1}"
  [ -n "$record" ] || options+=(--candidate rbuild)
  conform "${options[@]}"
  exit
fi

verdicts=$work/verdicts.json
status=0
conform --golden --candidate rbuild --json "$verdicts" "${options[@]}" || status=$?
[ -s "$verdicts" ] || exit "$status"

python3 - "$verdicts" testdata/conformance/known-failures <<'P'
import json, sys
verdicts, known = sys.argv[1:]
cases = {case["case"]: case["status"] in ("PASS", "SOFT") for case in json.load(open(verdicts))["cases"]}
lines = (line.split("#")[0].strip() for line in open(known))
known = {line for line in lines if line}
new = sorted(name for name, passed in cases.items() if not passed and name not in known)
stale = sorted(name for name in known if cases.get(name))
for name in new:
    print(f"fails, and is not in known-failures: {name}")
for name in stale:
    print(f"passes: take it out of known-failures: {name}")
sys.exit(1 if new or stale else 0)
P
