#!/usr/bin/env bash
# `make demo`: builds rbuild, makes node:8.4, builds koa-demo from its Dockerfile, runs it and asks it for a page.
#
# DEMO_PORT   port of this machine that the demo listens on (default: 8000)
. "$(dirname "$0")/common.sh"
cd "$top"
port=${DEMO_PORT:-8000}
started=$(date +%s)

scripts/setup.sh demo

say "Building rbuild (the first time takes some minutes)"
rbuild=$(scripts/release.sh)
file -b "$rbuild"
ls -l "$rbuild" | awk '{ printf "%.1f MB: %s\n", $5 / 1e6, $NF }'
# Containers keep running after this script; their state is where later commands look for it.
run() { as_root "$rbuild" "$@"; }

say "Base images, from Debian's and npm's packages"
as_root env RBUILD="$rbuild" scripts/bases.sh busybox debian:trixie node:8.4

say "rbuild -t koa-demo testdata/projects/koa-demo"
run --host-ca -t koa-demo testdata/projects/koa-demo

say "The same again"
before=$(date +%s%N)
run -q --host-ca -t koa-demo testdata/projects/koa-demo
echo "$(( ($(date +%s%N) - before) / 1000000 )) ms"

say "rbuild run -d --name koa-demo -p $port:3000 koa-demo"
run rm -f koa-demo >/dev/null 2>&1 || true
run run -d --name koa-demo -p "$port:3000" koa-demo
run ps

say "curl http://127.0.0.1:$port/"
answer=
for _ in $(seq 100); do
  answer=$(curl -fsS --noproxy '*' "http://127.0.0.1:$port/" 2>/dev/null) && break
  sleep 0.1
done
[ -n "$answer" ] || { run logs koa-demo >&2; die "koa-demo does not answer on port $port"; }
echo "$answer"
curl -fsS --noproxy '*' "http://127.0.0.1:$port/version"; echo

say "koa-demo answers on http://127.0.0.1:$port/ after $(( $(date +%s) - started )) s"
sudo=; [ "$(id -u)" = 0 ] || sudo='sudo '
cat <<TXT
Look at it:  $sudo$rbuild ps
             $sudo$rbuild logs koa-demo
Stop it:     $sudo$rbuild rm -f koa-demo
TXT
