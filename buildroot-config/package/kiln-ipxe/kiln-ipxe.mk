################################################################################
#
# kiln-ipxe
#
################################################################################

KILN_IPXE_VERSION = 1.0.0+git-20190125.36a4c85-5.1
KILN_IPXE_SITE = $(BR2_EXTERNAL_KILN_PATH)/../target/ipxe
KILN_IPXE_SITE_METHOD = local
KILN_IPXE_LICENSE = GPL-2.0+
KILN_IPXE_LICENSE_FILES = copyright
KILN_IPXE_FILES = undionly.kpxe snponly.efi

# Buildroot checks hashes of what it downloads; these files are the user's.
define KILN_IPXE_CHECK_FILES
	sed -n 's/^sha256  //p' $(KILN_IPXE_PKGDIR)/kiln-ipxe.hash \
		| (cd $(@D) && sha256sum --check --quiet)
endef
KILN_IPXE_POST_RSYNC_HOOKS += KILN_IPXE_CHECK_FILES

define KILN_IPXE_INSTALL_TARGET_CMDS
	$(foreach name,$(KILN_IPXE_FILES), \
		$(INSTALL) -D -m 0644 $(@D)/$(name) \
			$(TARGET_DIR)/usr/share/kiln/$(name)
	)
endef

$(eval $(generic-package))
