#!/usr/bin/env bash
# Installs what the demo and the tests need beyond Rust, from Debian's packages. Quiet and quick if all of it is there.
#
#   scripts/setup.sh demo|test
. "$(dirname "$0")/common.sh"

# Each as COMMAND-OR-FILE:PACKAGE.
programs=(cc:gcc /usr/lib/x86_64-linux-gnu/libc.a:libc6-dev make:make file:file curl:curl debootstrap:debootstrap
  busybox:busybox-static /etc/ssl/certs/ca-certificates.crt:ca-certificates)
if [ "${1:-test}" = test ]; then
  programs+=(docker-registry:docker-registry skopeo:skopeo umoci:umoci newuidmap:uidmap htpasswd:apache2-utils
    openssl:openssl python3:python3 ssh-add:openssh-client strace:strace)
fi

packages=()
for program in "${programs[@]}"; do
  name=${program%%:*}
  [ -e "$name" ] || command -v "$name" >/dev/null || packages+=("${program##*:}")
done
command -v cargo >/dev/null || die "there is no \`cargo\`: install Rust from https://rustup.rs"
[ ${#packages[@]} = 0 ] && exit 0

say "Installing ${packages[*]}"
command -v apt-get >/dev/null || die "there is no \`apt-get\`: install ${packages[*]} yourself"
log=$(mktemp)
install() {
  as_root apt-get update -qq && \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}
install "${packages[@]}" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "cannot install ${packages[*]}"; }
rm -f "$log"
