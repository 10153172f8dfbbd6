################################################################################
#
# kiln-programs
#
################################################################################

KILN_PROGRAMS_VERSION = 0.1.0
KILN_PROGRAMS_SITE = $(BR2_EXTERNAL_KILN_PATH)/..
KILN_PROGRAMS_SITE_METHOD = local
KILN_PROGRAMS_LICENSE = Apache-2.0
KILN_PROGRAMS_LICENSE_FILES = LICENSE
KILN_PROGRAMS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude=/target

KILN_PROGRAMS_NAMES = agent applianced bootd host kiln
# The agent is in the deploy ramdisk and nowhere else: see board/kiln/post-build.sh.
KILN_PROGRAMS_INSTALLED = applianced bootd host kiln
KILN_PROGRAMS_VENDOR = $(BR2_EXTERNAL_KILN_PATH)/../target/vendor

# Of a local site nothing is vendored by Buildroot.
KILN_PROGRAMS_CARGO_BUILD_OPTS = \
	$(addprefix --package=,$(KILN_PROGRAMS_NAMES)) \
	--config 'source.crates-io.replace-with="kiln"' \
	--config 'source.kiln.directory="$(KILN_PROGRAMS_VENDOR)"'

# As in the profile that the tests run: a sum that overflows ends the process.
KILN_PROGRAMS_CARGO_ENV = \
	CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true

KILN_PROGRAMS_BUILT = \
	$(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)

define KILN_PROGRAMS_FIND_CRATES
	@test -d $(KILN_PROGRAMS_VENDOR) || { \
		echo "kiln-programs: no crates in target/vendor:" \
			"run cargo vendor --locked target/vendor" >&2; \
		exit 1; \
	}
endef
KILN_PROGRAMS_PRE_BUILD_HOOKS += KILN_PROGRAMS_FIND_CRATES

define KILN_PROGRAMS_INSTALL_TARGET_CMDS
	$(foreach name,$(KILN_PROGRAMS_INSTALLED), \
		$(INSTALL) -D -m 0755 $(KILN_PROGRAMS_BUILT)/$(name) \
			$(TARGET_DIR)/usr/bin/$(name)
	)
endef

KILN_PROGRAMS_INSTALL_IMAGES = YES

define KILN_PROGRAMS_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0755 $(KILN_PROGRAMS_BUILT)/agent $(BINARIES_DIR)/agent
endef

$(eval $(cargo-package))
