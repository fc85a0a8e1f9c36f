#!/usr/bin/env bash
# Builds the release program as one static file and says where it is, on standard output.
#
# With musl where Rust's target and a compiler for its C parts are installed, else with glibc linked in.
. "$(dirname "$0")/common.sh"
cd "$top"

machine=$(uname -m)
triple=$machine-unknown-linux-gnu
# At a fixed address: see docs/decisions/0011-fixed-address.md.
flags="-C relocation-model=static"
musl=$machine-unknown-linux-musl
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ] && command -v musl-gcc >/dev/null; then
  triple=$musl
else
  flags="$flags -C target-feature=+crt-static"
  export "CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$triple")_LINKER=$top/scripts/order-cc.sh"
fi

# Naming the target keeps the flags away from build scripts and procedural macros, which cannot be static.
RUSTFLAGS="${RUSTFLAGS:-} $flags" cargo build --release --locked --target "$triple" -p rbuild >&2

program=$target/$triple/release/rbuild
# Only a program that asks for a loader names one.
! file -b "$program" | grep -q interpreter || die "\`$program\` is not static: $(file -b "$program")"
mkdir -p "$target/dist"
cp "$program" "$target/dist/rbuild.part" && mv "$target/dist/rbuild.part" "$target/dist/rbuild"
echo "$target/dist/rbuild"
