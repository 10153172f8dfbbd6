#!/usr/bin/env bash
# Puts into the target what a package cannot know: which release this is, and what GRUB starts.
# post-build.sh TARGET_DIR ARCHITECTURE; Buildroot gives BINARIES_DIR and BUILD_DIR.
set -euo pipefail

target=$1
architecture=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$here/../../..

# Each line of a fragment has to be in what was configured: what depends on something that is not there is
# dropped without a word.
held() {
  local configured=$1 wish name lost=0
  shift
  while read -r wish; do
    name=${wish#\# }
    name=${name%%[= ]*}
    # What does not exist is not set.
    if ! grep -qxF -- "$wish" "$configured" && { [[ $wish != \#* ]] || grep -q "^$name=" "$configured"; }; then
      echo "post-build.sh: lost in $configured: $wish" >&2
      lost=1
    fi
  done < <(grep -hE '^(# )?CONFIG_' "$@")
  [ $lost = 0 ]
}
held "$(echo "$BUILD_DIR"/linux-[0-9]*/.config)" "$here/linux.fragment" "$here/linux-$architecture.fragment"
held "$(echo "$BUILD_DIR"/busybox-[0-9]*/.config)" "$here/busybox.fragment"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")
commit=unknown
# 2026-01-01, as for whatever else is dated.
built=1767225600
if git -C "$top" rev-parse HEAD >/dev/null 2>&1; then
  commit=$(git -C "$top" rev-parse HEAD)
  built=$(git -C "$top" show -s --format=%ct HEAD)
  [ -z "$(git -C "$top" status --porcelain)" ] || commit=$commit-dirty
fi
# Buildroot's own may be a link to usr/lib.
rm -f "$target/etc/os-release" "$target/etc/resolv.conf"
cat >"$target/etc/os-release" <<EOF
ID=kiln
NAME=Kiln
PRETTY_NAME="Kiln $version"
VERSION_ID=$version
BUILD_ID=$commit
KILN_BUILT=$built
EOF
ln -s /run/resolv.conf "$target/etc/resolv.conf"

case $architecture in
x86_64) kernel=bzImage ;;
aarch64) kernel=Image ;;
*) echo "post-build.sh: no kernel's name is known for '$architecture'" >&2; exit 1 ;;
esac
release=$(basename "$(find "$target/lib/modules" -mindepth 1 -maxdepth 1 -type d)")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/ramdisk" "$scratch/host"

# An archive of a folder: sorted, root's, dated 0.
archive() {
  find "$1" -exec touch -h -d @0 {} +
  (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$2"
}

# What the lists name is built into the kernel: there is no module, only the list of what is built in.
index() {
  mkdir -p "$1/lib/modules/$release"
  cp "$target/lib/modules/$release/modules.builtin" "$1/lib/modules/$release/"
  touch "$1/lib/modules/$release"/modules.{alias,dep,softdep}
}

# The deploy ramdisk: what nodes boot, and, with host.cpio behind it, the appliance.
mkdir "$scratch"/ramdisk/{dev,etc,proc,run,sbin,sys,tmp}
install -m 0755 "$BINARIES_DIR/agent" "$scratch/ramdisk/init"
ln -s /init "$scratch/ramdisk/sbin/modprobe"
index "$scratch/ramdisk"

mkdir "$scratch/host/etc"
install -m 0755 "$target/usr/bin/host" "$scratch/host/init"
sed 's/#.*//' "$top/rootfs/modules.list" | awk '$2 == "always" { print $1 }' >"$scratch/host/etc/modules"
chmod 0644 "$scratch/host/etc/modules"
index "$scratch/host"

mkdir -p "$target/boot"
install -m 0644 "$BINARIES_DIR/$kernel" "$target/boot/kernel"
archive "$scratch/ramdisk" "$target/boot/initramfs"
archive "$scratch/host" "$target/boot/host.cpio"
