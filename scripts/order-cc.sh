#!/usr/bin/env bash
# The linker of `make release`: cc, told to put side by side what a build that finds everything runs.
#
# 14 MB of code are mapped in pieces of 64 KB, each when something in it is first run, and unmapped page by page at the
# end. Wherever the linker finds functions is where it puts them, so short commands touch most pieces. So the program is
# linked, watched at such commands, and linked again with what they ran in front (docs/decisions/0018-order-of-functions.md).
#
# Only lld takes such a list, and only valgrind tells which functions ran. Without either this is just cc.
set -euo pipefail

as_usual() { echo "order-cc.sh: functions are left where they are: $1" >&2; cc "${arguments[@]}"; exit; }

arguments=("$@")
output=
for ((i = 0; i < $#; i++)); do [ "${arguments[i]}" != -o ] || output=${arguments[i + 1]}; done
[[ ${output##*/} == rbuild-* ]] || exec cc "$@"
[[ " $* " == *" -fuse-ld=lld "* ]] || as_usual "the linker is not lld"
command -v valgrind >/dev/null || as_usual "valgrind is not installed"

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
named=() # with the names of functions in it
for argument in "$@"; do case $argument in
  -Wl,--strip-*) ;;
  "$output") named+=("$place/rbuild") ;;
  *) named+=("$argument") ;;
esac; done
cc "${named[@]}"

export RBUILD_ROOT=$place/state HOME=$place
mkdir "$place/app"
for i in $(seq 20); do echo "$i" >"$place/app/$i"; done
printf 'FROM scratch\nCOPY . /app\nENV A=1 B=$A\nWORKDIR /app\nCMD ["/app/1"]\n' >"$place/app/Dockerfile"

# watch NAME ARGUMENTS...: which functions does rbuild run?
watch() {
  valgrind --tool=callgrind --demangle=no --callgrind-out-file="$place/$1.calls" "$place/rbuild" "${@:2}" &>>"$place/said"
}
build() { "$place/rbuild" build -t watched "$place/app" &>>"$place/said"; }
sleep 0.1 # files as young as the build itself are read again by the next one
build && build && watch build build -t watched "$place/app" && watch quiet build -q -t watched "$place/app" &&
  watch version version || { sed 's/^/order-cc.sh: /' "$place/said" >&2; as_usual "the program could not be watched"; }
sed -nE "s/^c?fn=\([0-9]+\) ([^']*).*/\1/p" "$place"/{build,quiet,version}.calls | awk '!seen[$0]++' >"$place/order"
[ -s "$place/order" ] || as_usual "no function ran"
cc "$@" -Wl,--symbol-ordering-file="$place/order" -Wl,--no-warn-symbol-ordering
echo "order-cc.sh: $(wc -l <"$place/order") functions lie side by side" >&2
