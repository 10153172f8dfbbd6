################################################################################
#
# kiln-tools
#
################################################################################

KILN_TOOLS_SOURCE =
KILN_TOOLS_LICENSE = Apache-2.0
KILN_TOOLS_DEPENDENCIES = \
	grub2 \
	host-cryptsetup \
	host-dosfstools \
	host-genimage \
	host-grub2 \
	host-mtools \
	host-rauc \
	host-squashfs \
	host-zstd

$(eval $(generic-package))
