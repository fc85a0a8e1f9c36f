#!/usr/bin/env bash
# Other builders, to compare rbuild with: Debian trixie's Docker Engine (BuildKit is inside) and buildah.
#
#   scripts/reference.sh start docker|buildah DIR   install them if they are not there yet, start one with its state in DIR
#   scripts/reference.sh exec DIR COMMAND...        run a client: exec DIR docker build …, exec DIR buildah build …
#   scripts/reference.sh how DIR docker|buildah     say what `exec` would run, a word to a line: NAME=VALUE..., --, WORD...
#   scripts/reference.sh stop DIR                   end it; DIR can be removed then
#
# They live in a Debian tree of their own (about 700 MB, kept in $RBUILD_REFERENCES, default ~/.cache/rbuild/references)
# and run in namespaces of their own: no bridge, no firewall rule and no mount of theirs is seen outside, and all of it
# goes when they are stopped. They have no network but loopback. Paths below $TMPDIR mean the same inside. Root only.
. "$(dirname "$0")/common.sh"
[ "$(id -u)" = 0 ] || die "reference.sh: must run as root"
cache=${RBUILD_REFERENCES:-${XDG_CACHE_HOME:-$HOME/.cache}/rbuild/references}
tree=$cache/root
temporary=${TMPDIR:-/tmp}

make_tree() {
  [ -e "$tree/.complete" ] && return
  command -v debootstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends debootstrap; }
  mkdir -p "$cache"
  rm -rf "$tree"
  echo "installing Docker and buildah in $tree" >&2
  {
    debootstrap --variant=minbase trixie "$tree"
    cp /etc/resolv.conf "$tree/etc/resolv.conf"
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"   # starts no service
    chmod 755 "$tree/usr/sbin/policy-rc.d"
    chroot "$tree" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends docker.io docker-cli docker-buildx buildah netavark runc iptables ca-certificates git xz-utils'
  } >"$cache/install.log" 2>&1 </dev/null || { tail -n 20 "$cache/install.log" >&2; die "cannot install the references"; }
  touch "$tree/.complete"
}

# The first process of the namespaces: makes the tree their root, then waits or is dockerd.
inside='
  tree=$1 temporary=$2; shift 2
  mount --bind "$tree" "$tree"
  mount -t proc proc "$tree/proc"
  for place in sys dev; do mount --rbind /$place "$tree/$place"; done
  mkdir -p "$tree$temporary" && mount --bind "$temporary" "$tree$temporary"
  ip link set lo up 2>/dev/null || true
  exec chroot "$tree" "$@"'

start() {
  local kind=$1 state=$2; shift 2
  make_tree
  mkdir -p "$state"
  local process=(sleep infinity)
  if [ "$kind" = docker ]; then
    echo '{"features": {"containerd-snapshotter": true}}' >"$state/daemon.json"
    process=(dockerd --config-file "$state/daemon.json" -H "unix://$state/docker.sock" --data-root "$state/data"
      --exec-root "$state/exec" --pidfile "$state/docker.pid" --iptables=false --ip6tables=false --ip-masq=false)
  fi
  unshare --mount --net --pid --fork --kill-child --propagation private \
    sh -euc "$inside" - "$tree" "$temporary" "${process[@]}" >"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
  local _
  for _ in $(seq 150); do
    kill -0 "$(cat "$state/pid")" 2>/dev/null || break
    ready "$kind" "$state" >/dev/null 2>&1 && return
    sleep 0.2
  done
  tail -n 20 "$state/log" >&2
  die "$kind does not start"
}

ready() {
  if [ "$1" = docker ]; then enter "$2" docker version; else enter "$2" buildah --version; fi
}

# enter DIR CLIENT [ARGUMENT...]: runs it where the process that was started is, keeping the environment but for its PATH.
enter() {
  local environment client
  find_client "$1" "$2"
  shift 2
  env "${environment[@]}" "${client[@]}" "$@"
}

find_client() {
  local state=$1 first
  first=$(pgrep -P "$(cat "$state/pid")")
  environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "DOCKER_HOST=unix://$state/docker.sock"
    BUILDAH_RUNTIME=/usr/bin/runc HOME=/root)
  client=(/usr/bin/nsenter --target "$first" --mount --net --pid --root --wd=/ -- "$2")
  [ "$2" != buildah ] || client+=(--root "$state/root" --runroot "$state/run" --storage-driver overlay)
}

how() {
  local environment client
  find_client "$1" "$2"
  printf '%s\n' "${environment[@]}" -- "${client[@]}"
}

stop() {
  local state=$1 first
  [ -s "$state/pid" ] || return 0
  first=$(pgrep -P "$(cat "$state/pid")") && kill "$first" 2>/dev/null
  for _ in $(seq 50); do kill -0 "$first" 2>/dev/null || break; sleep 0.1; done
  kill "$(cat "$state/pid")" 2>/dev/null || true
  rm "$state/pid"
}

case "${1:-}" in
  start) [ $# = 3 ] || die "start docker|buildah DIR"; start "$2" "$3" ;;
  exec) shift; enter "$@" ;;
  how) how "$2" "$3" ;;
  stop) stop "$2" ;;
  *) sed -n '2,12p' "$0"; exit 2 ;;
esac
