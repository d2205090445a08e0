# SPDX-License-Identifier: MIT
# The packaging's part of the Makefile: units for systemd, Debian packages, and their tests.

# -- units --------------------------------------------------------------------------------------

# Each file makes two units: berthd.service, and berthd@.service for further instances.
UNITS = $(patsubst %,$(BUILD)/units/%,berthd.service berthd.socket berthd-admin.socket \
	berthd@.service berthd@.socket berthd-admin@.socket)
unit_make = @mkdir -p $(@D) && sed -e 's|@SBINDIR@|$(PREFIX)/sbin|; s|@INSTANCE@|$(1)|g' \
	-e 's|@DIRECTORY@|berth$(1)|g; s|@USER@|berth$(2)|g' \
	-e 's|@DESCRIPTION@|Per-account concurrency quotas$(3)|' \
	-e '/^@PREPARE@$$/{' -e 'r $(4)' -e 'd' -e '}' $< >$@

$(BUILD)/units/%@.service: packaging/systemd/%.service.in packaging/packaging.mk
	$(call unit_make,@%i,-%i, (%i),/dev/null)
$(BUILD)/units/%@.socket: packaging/systemd/%.socket.in packaging/systemd/prepare-instance \
		packaging/packaging.mk
	$(call unit_make,@%i,-%i, (%i),packaging/systemd/prepare-instance)
$(BUILD)/units/%: packaging/systemd/%.in packaging/packaging.mk
	$(call unit_make,,,,/dev/null)
units: $(UNITS)
# The units are made again each time, since PREFIX may have changed.
$(UNITS): always
always:

# The directories where systemd looks for these files. On Debian 12, packages have units in /lib.
UNITDIR = $(PREFIX)/lib/systemd/system
CONFDIR = $(DESTDIR)$(PREFIX)/lib
install-systemd: $(UNITS)
	install -d $(DESTDIR)$(UNITDIR) $(CONFDIR)/sysusers.d $(CONFDIR)/tmpfiles.d \
		$(CONFDIR)/systemd/catalog
	install -m 644 $(UNITS) $(DESTDIR)$(UNITDIR)
	install -m 644 packaging/systemd/berth.sysusers $(CONFDIR)/sysusers.d/berth.conf
	install -m 644 packaging/systemd/berth.tmpfiles $(CONFDIR)/tmpfiles.d/berth.conf
	install -m 644 packaging/systemd/berth.catalog $(CONFDIR)/systemd/catalog
uninstall-systemd:
	rm -f $(UNITS:$(BUILD)/units/%=$(DESTDIR)$(UNITDIR)/%) $(CONFDIR)/sysusers.d/berth.conf \
		$(CONFDIR)/tmpfiles.d/berth.conf $(CONFDIR)/systemd/catalog/berth.catalog

# -- Debian packages ------------------------------------------------------------------------------

deb: deps
	@packaging/deps deb
	@packaging/make-deb $(BUILD)/deb $(VERSION)

# Writes the present ABI to libberth.abi: for a commit that extends the ABI on purpose.
abi: $(BUILD)/libberth.so
	@packaging/deps deb
	abidw --exported-interfaces-only --header-file include/berth.h --drop-private-types \
		--no-show-locs --no-corpus-path --no-comp-dir-path \
		$(BUILD)/libberth.so.$(SOVERSION) >packaging/libberth.abi

# packagetest runs lintian, compares two builds byte by byte, and compares the ABI. systemtest boots the packages
# in a container with systemd.
packagetest: deb
	@BUILD=$(BUILD) VERSION=$(VERSION) tests/install/package-lint.sh
systemtest: deb
	@packaging/deps system
	@BUILD=$(BUILD) VERSION=$(VERSION) tests/install/system/run

.PHONY: units always install-systemd uninstall-systemd deb abi packagetest systemtest
