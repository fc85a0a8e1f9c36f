# Sourced by the other scripts: what they share.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
# Where rustup puts cargo, and where root's programs are for everybody else.
PATH=$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin

say() { printf '\n== %s\n' "$*"; }
die() { echo "error: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "this needs root: be root, or install sudo"

# as_root COMMAND...: through sudo unless we are root; the environment stays.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E env "PATH=$PATH" "$@"; fi
}
