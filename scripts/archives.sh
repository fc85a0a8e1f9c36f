# Sourced by versus.sh and scale.sh after common.sh: $RBUILD, and in $archives the base images that builders take.
cd "$top"
[ "$(id -u)" = 0 ] || exec sudo -E env "PATH=$PATH" "$0" "$@"
scripts/setup.sh test
[ -n "${RBUILD:-}" ] || RBUILD=$(scripts/release.sh)
export RBUILD PYTHONDONTWRITEBYTECODE=1

archives=$target/versus
mkdir -p "$archives"
if [ ! -e "$archives/debian/index.json" ]; then
  store=$(mktemp -d)
  trap 'rm -rf "$store"' EXIT
  RBUILD_ROOT=$store scripts/bases.sh --export "$archives" busybox debian:trixie >/dev/null
  # Layers compressed with gzip, once for all.
  skopeo copy -q "docker-archive:$archives/debian-trixie.tar" "oci:$archives/debian:latest"
  rm -rf "$store"
  trap - EXIT
fi
export VERSUS_DEBIAN=oci:$archives/debian:latest
