#!/usr/bin/env bash
# Makes of the finished target the slot image (squashfs, seal, dm-verity), the disk to flash and the update bundle.
# post-image.sh BINARIES_DIR ARCHITECTURE; Buildroot gives TARGET_DIR, HOST_DIR and BUILD_DIR. KILN_SIGNER: a folder
# with key.pem and certificate.pem, by which bundles are signed; without it there is none, and the image takes none.
set -euo pipefail

images=$1
architecture=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$here/../../..
PATH=$HOST_DIR/bin:$HOST_DIR/sbin:$PATH
# 2026-01-01, as in every image of Kiln's.
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=1767225600

work=$BUILD_DIR/kiln-image
rm -rf "$work"
mkdir -p "$work/root" "$work/parts"
root=$work/root
version=$(sed -n 's/^VERSION_ID=//p' "$TARGET_DIR/etc/os-release")

fail() { echo "post-image.sh: $*" >&2; exit 1; }
# A number as octets, the lowest first.
little() {
  local number=$1 at
  for ((at = 0; at < $2; at++)); do printf '%b' "\\x$(printf %02x $((number >> 8 * at & 255)))"; done
}
# Standard input into a file, from an octet on.
poke() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# The root: what is named here and nothing else of the target.
for name in data dev lib/modules mnt proc root run sys tmp usr/bin var; do mkdir -p "$root/$name"; done
cp -R "$top/rootfs/etc" "$root/"
find "$root/etc" -type f -exec chmod 0644 {} +
cp -P "$TARGET_DIR"/etc/{os-release,resolv.conf} "$root/etc/"
# A slot image is a tree of /bin, /sbin, /usr and their libraries, wherever the target keeps them.
take() {
  local found
  found=$(cd "$TARGET_DIR" && find sbin/ usr/sbin/ bin/ usr/bin/ -maxdepth 1 -name "$1" -print -quit)
  [ -n "$found" ] || fail "the target has no $1"
  install -D -m 0755 "$TARGET_DIR/$found" "$root/$2"
}
for name in nft mke2fs e2fsck resize2fs; do take "$name" "sbin/$name"; done
take busybox bin/busybox
for name in applianced bootd host kiln rauc; do take "$name" "usr/bin/$name"; done
# RAUC's name for what reads and writes the boot loader's variables.
ln -s host "$root/usr/bin/grub-editenv"
compatible=kiln-${architecture/_/-}
sed -i "s/^compatible=.*/compatible=$compatible/" "$root/etc/rauc/system.conf"
[ -z "${KILN_SIGNER:-}" ] || install -D -m 0644 "$KILN_SIGNER/certificate.pem" "$root/etc/rauc/keyring.pem"
for folder in bin sbin usr/bin usr/sbin; do
  while read -r applet; do
    [ -e "$root/$folder/$applet" ] || { mkdir -p "$root/$folder"; ln -s /bin/busybox "$root/$folder/$applet"; }
  done < <(find "$TARGET_DIR/$folder/" -maxdepth 1 -type l -lname '*busybox' -printf '%f\n')
done
for folder in lib usr/lib; do
  mkdir -p "$root/$folder"
  find "$TARGET_DIR/$folder/" -maxdepth 1 -name '*.so*' -exec cp -P {} "$root/$folder/" \;
done
for folder in lib64 usr/lib64; do
  if [ -L "$TARGET_DIR/$folder" ]; then ln -s lib "$root/$folder"; fi
done
for name in undionly.kpxe snponly.efi; do
  install -D -m 0644 "$TARGET_DIR/usr/share/kiln/$name" "$root/usr/share/kiln/$name"
done
for name in kernel initramfs host.cpio; do install -D -m 0644 "$TARGET_DIR/boot/$name" "$root/boot/$name"; done
find "$root" -type d -exec chmod 0755 {} +
chmod 0555 "$root/proc" "$root/sys"
chmod 0700 "$root/root"
chmod 1777 "$root/tmp"

# The slot image. GRUB reads gzip.
slot=$images/kiln-$version.slot
rm -f "$slot"
mksquashfs "$root" "$slot" -noappend -quiet -no-progress -all-root -no-xattrs -no-exports -comp gzip -b 128K
used=$(od -An -tu8 -j40 -N8 "$slot" | tr -d ' ')
blocks=$(((used + 4095) / 4096))
truncate -s $((blocks * 4096)) "$slot"
# Another content, another salt and another identifier; the same content, the same.
salt=$(sha256sum "$slot" | cut -d' ' -f1)
uuid=${salt:0:8}-${salt:8:4}-${salt:12:4}-${salt:16:4}-${salt:20:12}
hash=$(veritysetup format --data-block-size=4096 --hash-block-size=4096 --hash=sha256 \
  --data-blocks=$blocks --hash-offset=$(((blocks + 1) * 4096)) --salt="$salt" --uuid="$uuid" "$slot" "$slot" |
  sed -n 's/^Root hash:[[:space:]]*//p')
[ -n "$hash" ] || fail "veritysetup prints no root hash"
printf 'kiln-seal 1\ndata-blocks %s\nroot %s\nsalt %s\nversion %s\n' "$blocks" "$hash" "$salt" "$version" |
  poke "$slot" $((blocks * 4096))
size=$(stat -c %s "$slot")
truncate -s $(((size + 4095) / 4096 * 4096)) "$slot"
[ "$(stat -c %s "$slot")" -le $((64 << 20)) ] || fail "the slot image has more than 64 MiB"
cp "$slot" "$work/parts/slot"

if [ -n "${KILN_SIGNER:-}" ]; then
  mkdir "$work/bundle"
  cp "$slot" "$work/bundle/system.img"
  printf '[update]\ncompatible=%s\nversion=%s\n\n[bundle]\nformat=verity\n\n[image.system]\nfilename=system.img\n' \
    "$compatible" "$version" >"$work/bundle/manifest.raucm"
  rm -f "$images/kiln-$version.raucb"
  rauc --cert="$KILN_SIGNER/certificate.pem" --key="$KILN_SIGNER/key.pem" bundle "$work/bundle" "$images/kiln-$version.raucb"
fi

# The boot loader.
modules=(part_gpt fat squash4 gzio normal linux configfile loadenv probe regexp test true echo sleep reboot keystatus
  serial terminal minicmd ls cat)
cp "$top/rootfs/boot/grub.cfg" "$work/parts/grub.cfg"
grub=$TARGET_DIR/lib/grub
case $architecture in
x86_64)
  grub-mkimage -d "$grub/x86_64-efi" -O x86_64-efi -p /grub -o "$work/parts/BOOTX64.EFI" "${modules[@]}" efi_gop efi_uga
  grub-mkimage -d "$grub/i386-pc" -O i386-pc -p '(,gpt2)/grub' -o "$work/parts/core.img" "${modules[@]}" biosdisk
  # What grub-bios-setup does: where in the partition `bios` the rest of the core is.
  little 2049 8 | poke "$work/parts/core.img" $((0x1f4))
  ;;
aarch64)
  grub-mkimage -d "$grub/arm64-efi" -O arm64-efi -p /grub -o "$work/parts/BOOTAA64.EFI" "${modules[@]}" efi_gop
  # No partition for BIOS: the slots are the second and the third. And another serial port.
  sed -i -e 's/set number=3$/set number=2/' -e 's/set number=4$/set number=3/' -e 's/ttyS0,/ttyAMA0,/' "$work/parts/grub.cfg"
  ;;
*) fail "'$architecture' has no boot loader" ;;
esac
{
  printf '# GRUB Environment Block\nORDER=A B\nA_OK=1\nB_OK=0\nA_TRY=0\nB_TRY=0\nTRIAL=\n'
  printf '#%.0s' {1..1024}
} | head -c 1024 >"$work/parts/grubenv"

# The disk.
genimage --rootpath "$work/parts" --tmppath "$work/scratch" --inputpath "$work/parts" --outputpath "$work/out" \
  --config "$here/genimage-$architecture.cfg"
disk=$images/kiln-$version.img
mv "$work/out/kiln.img" "$disk"
if [ "$architecture" = x86_64 ]; then
  # The code in front of the partition table, and where the core begins; two nops trust the BIOS's drive number.
  head -c 440 "$grub/i386-pc/boot.img" | poke "$disk" 0
  little 2048 8 | poke "$disk" $((0x5c))
  printf '\x90\x90' | poke "$disk" $((0x66))
fi
zstd -q -f -9 -o "$disk.zst" "$disk"
echo "post-image.sh: $disk.zst and $slot"
