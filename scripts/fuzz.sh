#!/usr/bin/env bash
# `make fuzz`: does any input make a parser panic, hang or lie? (docs/fuzzing.md)
#
#   scripts/fuzz.sh                   every target for a minute
#   scripts/fuzz.sh TARGET SECONDS    one of: dockerfile lower ignore reference tar
#
# What was found interesting stays in target/fuzz/corpus, what went wrong in target/fuzz/artifacts. Needs nightly Rust
# and g++; cargo-fuzz is installed beside the rest if it is not there. As root, archives are unpacked as root: in a mount
# namespace in which all the rest of the machine is read-only.
. "$(dirname "$0")/common.sh"
cd "$top"
targets=(dockerfile lower ignore reference tar)
[ $# = 0 ] || targets=("$1")
seconds=${2:-60}
out=$target/fuzz
machine=$(rustc -vV | sed -n 's/^host: //p')

# collect DIRECTORY SUFFIX FILE...: copies files under names that tell where they are from.
collect() {
  local into=$1 file; shift
  for file in "$@"; do cp "$file" "$into/$(tr / - <<<"$file")"; done
}

# Seeds are small and made anew, the corpus grows from run to run.
seeds() {
  local name=$1 into=$out/seeds/$1 file
  rm -rf "$into"; mkdir -p "$into"
  [ ! -d "fuzz/seeds/$name" ] || cp -r "fuzz/seeds/$name/." "$into"
  case $name in
    dockerfile | lower)
      while read -r file; do collect "$into" "$file"; done < <(
        find testdata/good testdata/bad testdata/lower testdata/conformance -name '*Dockerfile*' -type f) ;;
    ignore)
      while read -r file; do collect "$into" "$file"; done < <(find testdata -name '*.dockerignore' -type f) ;;
    reference)
      grep -rhoiE '^FROM +[^ ]+' testdata --include='*Dockerfile' | sed 's/^[^ ]* *//' | sort -u |
        while read -r file; do printf %s "$file" >"$into/from-$(cksum <<<"$file" | tr -d ' ')"; done ;;
    tar) tars "$into" ;;
  esac
}

# Archives of all dialects, from a small directory with everything in it.
tars() {
  local into=$1 work; work=$(mktemp -d)
  (
    cd "$work"
    mkdir -p a/b dir; echo content >a/file; ln a/file a/second; ln -s ../a/file dir/link; ln -s / absolute
    mkfifo dir/pipe; touch a/.wh.gone a/.wh..wh..opq "$(printf 'long%.0s' $(seq 40))"
    for format in v7 ustar gnu oldgnu pax; do
      tar --format=$format --sort=name --mtime=@1 -cf "$into/$format.tar" . 2>/dev/null || true
    done
    for tool in gzip bzip2 xz zstd; do
      ! command -v $tool >/dev/null || $tool -c <"$into/pax.tar" >"$into/pax.$tool"
    done
  )
  rm -rf "$work"
}

# jailed WRITABLE COMMAND...: where nothing but one directory and a fresh /dev/shm can be written.
jailed() {
  as_root unshare --mount --propagation private bash -euc '
    mount --bind "$1" "$1"
    mount -t tmpfs -o size=1g,mode=700 tmpfs /dev/shm
    while read -r point; do
      case $point in "$1" | /dev/shm | /dev | /dev/* | /proc | /proc/* | /sys | /sys/*) ;; *) mount -o remount,bind,ro "$point" ;; esac
    done < <(findmnt -rno TARGET)
    # A bomb fills a file, not the memory that /dev/shm is.
    ulimit -f 65536; trap "" XFSZ
    shift; exec "$@"' jailed "$@"
}

cargo +nightly fuzz --version >/dev/null 2>&1 || cargo +nightly install --locked cargo-fuzz
# No sanitizer: there is no unsafe code here that it could watch, and it halves the speed.
cargo +nightly fuzz build --sanitizer none --target-dir "$out/build"
for name in "${targets[@]}"; do
  say "$name, for $seconds seconds"
  mkdir -p "$out/corpus/$name" "$out/artifacts/$name"
  seeds "$name"
  program=$out/build/$machine/release/$name
  run=()
  if [ "$name" = tar ]; then run=(jailed "$out"); fi
  "${run[@]}" "$program" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -handle_xfsz=0 -print_final_stats=1 \
    -max_len=16384 -dict="fuzz/dictionaries/$name.dict" -artifact_prefix="$out/artifacts/$name/" \
    "$out/corpus/$name" "$out/seeds/$name"
done
