#!/usr/bin/env bash
# `make bench`: how long does the program take, and how much memory, for work that others can be asked to do too?
#
#   scripts/bench.sh                 the whole program, instructions, then the parts with criterion
#   scripts/bench.sh program         only the whole program
#   scripts/bench.sh instructions    only the instructions that parts and short commands take. Fails if one of them takes
#                                    more than benches/instructions allows; some seconds once everything is built
#   scripts/bench.sh reading         only what reading a Dockerfile costs: processor time and memory. Fails if that is
#                                    more memory than docs/performance.md promises
#
# RBUILD  the program (default: the release program, built first). Root only, for a store that mounts, but for
#         instructions and reading.
. "$(dirname "$0")/common.sh"
cd "$top"

# reading: memory is the same whatever else the machine does, so it decides; times do not.
reading() {
  say "Reading a Dockerfile: processor time, most memory, case"
  cargo build --locked --release -p rbuild-benches --example read
  local read=$target/release/examples/read case
  for case in $("$read"); do "$read" "$case" "$([ "$case" = typical_500_lines ] && echo 100 || echo 1)"; done | tee "$target/reading"
  awk '/ (typical|one_(RUN|heredoc))[A-Za-z_]*_10_MB,/ && $3 > 150 { print "more than 150 MiB: " $5; bad = 1 } END { exit bad }' "$target/reading"
}

# count COMMAND...: how many instructions it takes.
count() {
  local log; log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 >/dev/null)
  sed -n 's/.*Collected : //p' <<<"$log" | grep . || { echo "$log" >&2; die "failed under valgrind: $*"; }
}

# each WORK CASE TIMES ARGUMENTS...: how many instructions a case takes, the start not counted.
each() {
  local work=$1 what=$2 times=$3 once more; shift 3
  once=$(count "$work" "$what" 1 "$@") more=$(count "$work" "$what" $((times + 1)) "$@")
  echo $(((more - once) / times))
}

# instructions: they are the same whatever else the machine does, so they decide. In a shell of its own, which cleans up.
instructions() (
  say "Instructions: found, the most, what"
  command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed"; exit; }
  cargo build --locked --release -p rbuild-benches --example work
  program=${RBUILD:-$(scripts/release.sh)} work=$target/release/examples/work bad=
  place=$(mktemp -d)
  trap 'rm -rf "$place"' EXIT
  export RBUILD_ROOT=$place/state
  mkdir "$place/app"
  for i in $(seq 20); do echo "$i" >"$place/app/$i"; done
  printf 'FROM scratch\nCOPY . /app\nENV A=1 B=$A\nWORKDIR /app\nCMD ["/app/1"]\n' >"$place/app/Dockerfile"
  sleep 0.1
  for i in 1 2; do "$program" build -q -t cached "$place/app" >/dev/null; done
  "$work" walk 0 "$place"
  while read -r most what text; do
    case $what in
      parse|keys|tar) found=$(each "$work" "$what" 10) ;;
      walk) found=$(each "$work" walk 2 "$place") ;;
      version) found=$(count "$program" version) ;;
      cached) found=$(count "$program" build -q -t cached "$place/app") ;;
      *) die "benches/instructions: nobody knows what \`$what\` is" ;;
    esac
    printf '%12d %12d  %-8s %s\n' "$found" "$most" "$what" "$text"
    [ "$found" -le "$most" ] || bad="$bad $what"
  done < <(grep -v '^#' benches/instructions)
  [ -z "$bad" ] || die "more instructions than allowed:$bad"
)
[ "${1:-}" != instructions ] || { instructions; exit; }
[ "${1:-}" != reading ] || { reading; exit; }

[ "$(id -u)" = 0 ] || exec sudo -E env "PATH=$PATH" "$0" "$@"
[ -n "${RBUILD:-}" ] || { scripts/setup.sh demo; RBUILD=$(scripts/release.sh); }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RBUILD_ROOT=$work/state
RBUILD=$RBUILD BASES_CACHE=$work/bases scripts/bases.sh busybox >/dev/null

# measure QUESTION TIMES COMMAND...: the fastest of some runs, in milliseconds.
measure() {
  local question=$1 times=$2 best= before after took; shift 2
  for _ in $(seq "$times"); do
    before=$(date +%s%N); "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "failed: $*"; }; after=$(date +%s%N)
    took=$(( (after - before) / 10000 ))
    [ -n "$best" ] && [ "$best" -le "$took" ] || best=$took
  done
  printf '%8d.%02d ms  %s\n' $((best / 100)) $((best % 100)) "$question"
}
build() { "$RBUILD" build -q -t "$1" "$work/$1"; }
edited() { echo "$RANDOM" >>"$work/$1/$2"; build "$1"; }

mkdir -p "$work/small"
printf 'FROM busybox\nCOPY . /app\nWORKDIR /app\nRUN cat * >/dev/null\nCMD sh\n' >"$work/small/Dockerfile"
for i in $(seq 20); do echo "$i" >"$work/small/$i"; done

mkdir -p "$work/many"
printf 'FROM busybox\nCOPY . /app\n' >"$work/many/Dockerfile"
for d in $(seq 500); do mkdir "$work/many/$d"; for f in $(seq 100); do echo "$d/$f" >"$work/many/$d/$f"; done; done

mkdir -p "$work/chain"
{ echo 'FROM busybox'; for i in $(seq 40); do echo "RUN true $i"; done; } >"$work/chain/Dockerfile"

mkdir -p "$work/wide"
{ for i in $(seq 8); do printf 'FROM busybox AS s%d\nRUN sleep 1; echo %d >/%d\n' "$i" "$i" "$i"; done
  echo 'FROM scratch'; for i in $(seq 8); do echo "COPY --from=s$i /$i /"; done; } >"$work/wide/Dockerfile"

say "The program: $("$RBUILD" --version), $(nproc) processors"
measure "small context, first build" 1 build small
measure "small context, fully cached" 20 build small
measure "small context, one file changed" 5 edited small 7
measure "50,000 files, first build" 1 build many
measure "50,000 files, fully cached" 5 build many
measure "50,000 files, one changed" 3 edited many 250/50
measure "40 RUN true in a chain, first build" 1 build chain
measure "40 RUN true in a chain, fully cached" 10 build chain
measure "8 independent stages of sleep 1" 1 "$RBUILD" build -q -j 8 -t wide "$work/wide"
measure "run true in a container" 10 "$RBUILD" run --rm busybox true

[ "${1:-}" = program ] || { reading; instructions; say "The parts"; cargo bench --locked -p rbuild-benches; }
