# SPDX-License-Identifier: MIT
# Builds, tests and installs berth. `make help` lists the targets.

VERSION = 0.1.0
SOVERSION = 0
PREFIX = /usr/local
LIBDIR = $(PREFIX)/lib
MANDIR = $(PREFIX)/share/man
DESTDIR =
BUILD = build
CC = gcc
OBJCOPY = objcopy
CFLAGS = -O2 -g
WERROR =

# V=1 shows whole commands; make -s shows nothing.
Q = $(if $(V),,@)
say = @$(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),:,echo '  $(1) $(2)')

ALL_CFLAGS = -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wwrite-strings $(WERROR) -fPIC -fvisibility=hidden -fno-strict-aliasing -fno-plt -pthread \
	-D_GNU_SOURCE -DBERTH_VERSION='"$(VERSION)"' -Iinclude $(CPPFLAGS) $(CFLAGS)

# A file may include the headers of its own folder, and of the folders that may_FOLDER lists. Any other
# include doesn't compile (tests/docs/includes.sh tries).
may_client/wire =
may_client/core = client/wire
may_client/lib = client/core client/wire
may_client/ctl = client/wire
may_daemon/base = client/wire
may_daemon/store = daemon/base client/wire
may_daemon/shared = daemon/base client/core client/wire
may_daemon/accounts = daemon/shared $(may_daemon/shared)
may_daemon/holders = daemon/shared $(may_daemon/shared)
may_daemon/upkeep = daemon/accounts daemon/holders daemon/store $(may_daemon/accounts)
may_daemon/server = daemon/upkeep $(may_daemon/upkeep)
may_daemon = daemon/server $(may_daemon/server)
FOLDERS = client/wire client/core client/lib client/ctl daemon $(wildcard daemon/*/)
# Tests may include the headers of all folders, and of tests/lib.
TESTS_MAY = tests/lib client/lib client/ctl daemon $(may_daemon)
includes_of = $(patsubst %,-iquote %,$(if $(filter tests/%,$(1)),$(TESTS_MAY),$(may_$(patsubst %/,%,$(dir $(1))))))

# The objects of each part. WIRE and SHARED are in several of them.
objects = $(patsubst %.c,%.o,$(wildcard $(addsuffix /*.c,$(1))))
WIRE = $(call objects,client/wire)
SHARED = $(WIRE) $(call objects,client/core)
LIBRARY = $(filter-out client/wire/import-format.o,$(SHARED)) $(call objects,client/lib)
COMMAND = $(WIRE) $(call objects,client/ctl)
DAEMON = $(SHARED) $(call objects,daemon daemon/*)
DAEMON_LIBS = -llmdb -lsystemd

# Runs make again. It shows only warnings and errors, and uses every CPU.
QUIETLY = +@$(MAKE) -s $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

all: $(BUILD)/berthd $(BUILD)/berthctl $(BUILD)/libberth.so $(BUILD)/libberth.a $(BUILD)/compile_commands.json

help:
	@echo 'make            build berthd, berthctl and libberth into $(BUILD)/'
	@echo 'make demo       show berth at work, in a private directory'
	@echo 'make check      install the packages that are missing, then make test'
	@echo 'make test       run every test; installs nothing (SECONDS=n: of torture; SEED=n: repeat a run)'
	@echo 'make test T=test-pool        run one test program, or one script: T=drift'
	@echo 'make test T=test-pool:NAME   run one test of a program'
	@echo 'make buildtest  run the tests that need no root, no ptrace and little time, as a package build does'
	@echo 'make crash      kill berthd and its clients at every instruction (STRIDE=n: at every nth)'
	@echo 'make model      check the models of the counter with spin, whole and without each safety step'
	@echo 'make explore    run the real counter in a million schedules, with stalls and kills (EXPLORE_SECONDS=n)'
	@echo 'make torture    run the torture test alone (SECONDS=n, SEED=n)'
	@echo 'make faults     make each call fail that can fail, and change each byte of the store'
	@echo 'make fuzz       search for messages, imports and names that do harm (FUZZ_SECONDS=n for each)'
	@echo 'make tsan       run the tests under ThreadSanitizer'
	@echo 'make sanitize   run the tests and the torture test under AddressSanitizer and UBSan'
	@echo 'make valgrind   run the tests, berthd and berthctl under memcheck (takes long)'
	@echo 'make soak       check for leaks over a billion operations and ten thousand kills (MINUTES=n)'
	@echo 'make portable   test gcc, clang, aarch64 under qemu-user, libberth with musl (PORTS="aarch64 musl")'
	@echo 'make instructions  count the instructions of an acquire and a release (HELD=n: with n slots held)'
	@echo 'make bench      measure berth and its peers: tables in $(BUILD)/bench (QUICK=1: in a minute)'
	@echo 'make deb        build Debian packages in $(BUILD)/deb'
	@echo 'make packagetest   build and check the packages'
	@echo 'make systemtest    test the packages in a container with systemd; as root'
	@echo 'make install    install into PREFIX=$(PREFIX), LIBDIR=, MANDIR=, under DESTDIR='
	@echo 'make install-systemd   install the systemd units'
	@echo 'make uninstall  remove the installed files and units'
	@echo 'make deps       install the packages that building and testing need (demo and check do that, too)'
	@echo 'make lint       run shellcheck, cppcheck, clang-tidy, and clang-format without changes'
	@echo 'make format     run clang-format, in place'
	@echo 'make clean      remove everything that was built'

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(call includes_of,$<) -MMD -MP -c $< -o $@
-include $(wildcard $(BUILD)/*/*.d $(BUILD)/*/*/*.d)

$(BUILD)/berthd: $(DAEMON:%=$(BUILD)/%)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ $(DAEMON_LIBS) -o $@

$(BUILD)/libberth.so.$(SOVERSION): $(LIBRARY:%=$(BUILD)/%) client/lib/libberth.map
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libberth.so.$(SOVERSION) \
		-Wl,--version-script=client/lib/libberth.map -Wl,-z,nodelete -Wl,-z,defs -Wl,-Bsymbolic \
		$(LIBRARY:%=$(BUILD)/%) -o $@
$(BUILD)/libberth.so: $(BUILD)/libberth.so.$(SOVERSION)
	$(Q)ln -sf $(<F) $@
# One object with local hidden symbols, so that they can't clash with those of a program.
$(BUILD)/libberth.a: $(LIBRARY:%=$(BUILD)/%)
	$(call say,AR,$@)
	$(Q)$(CC) $(CFLAGS) -nostdlib -r $^ -o $(BUILD)/libberth.o
	$(Q)$(OBJCOPY) --localize-hidden $(BUILD)/libberth.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(BUILD)/libberth.o

$(BUILD)/berthctl: $(COMMAND:%=$(BUILD)/%) $(BUILD)/libberth.so
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(COMMAND:%=$(BUILD)/%) -L$(BUILD) -lberth -lsmartcols \
		-Wl,-rpath,'$$ORIGIN' -o $@

deps:
	@packaging/deps

# tests.mk builds and runs the tests. campaigns.mk has the longer tests, the sanitizers, and bench.
include tests/lib/tests.mk
include tests/lib/campaigns.mk

# -- installation -----------------------------------------------------------------------------

# Like build/berthctl, but without the path to build/libberth.so.
$(BUILD)/install/berthctl: $(COMMAND:%=$(BUILD)/%) $(BUILD)/libberth.so
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(COMMAND:%=$(BUILD)/%) -L$(BUILD) -lberth -lsmartcols -o $@

SBIN = $(DESTDIR)$(PREFIX)/sbin
BIN = $(DESTDIR)$(PREFIX)/bin
LIB = $(DESTDIR)$(LIBDIR)
INCLUDE = $(DESTDIR)$(PREFIX)/include
DOC = $(DESTDIR)$(PREFIX)/share/doc/berth
COMPLETIONS = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
MAN = $(DESTDIR)$(MANDIR)

# The manual pages; and links for functions that another function's page describes.
MANUALS = $(notdir $(wildcard packaging/man/*.[0-9]))
MANUAL_LINKS = berth_open_options.3:berth_open.3 berth_close.3:berth_open.3 \
	berth_acquire_req.3:berth_acquire.3 berth_release.3:berth_acquire.3 \
	berth_errname.3:berth_strerror.3

install: all $(BUILD)/install/berthctl
	install -d $(SBIN) $(BIN) $(LIB)/pkgconfig $(INCLUDE) $(DOC) $(COMPLETIONS)
	install -m 755 $(BUILD)/berthd $(SBIN)
	install -m 755 $(BUILD)/install/berthctl $(BIN)
	install -m 644 $(BUILD)/libberth.so.$(SOVERSION) $(BUILD)/libberth.a $(LIB)
	ln -sf libberth.so.$(SOVERSION) $(LIB)/libberth.so
	install -m 644 include/berth.h $(INCLUDE)
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
		client/lib/berth.pc.in >$(LIB)/pkgconfig/berth.pc
	install -m 644 LICENSE README.md $(DOC)
	install -m 644 packaging/completions/berthctl $(COMPLETIONS)
	install -d $(addprefix $(MAN)/man,1 3 7 8)
	for n in 1 3 7 8; do install -m 644 packaging/man/*.$$n $(MAN)/man$$n || exit; done
	for l in $(MANUAL_LINKS); do ln -sf $${l#*:} $(MAN)/man3/$${l%:*} || exit; done
	$(if $(DESTDIR),,-ldconfig)

uninstall: uninstall-systemd
	rm -f $(SBIN)/berthd $(BIN)/berthctl $(LIB)/libberth.so.$(SOVERSION) $(LIB)/libberth.so \
		$(LIB)/libberth.a $(LIB)/pkgconfig/berth.pc $(INCLUDE)/berth.h $(COMPLETIONS)/berthctl
	for m in $(MANUALS) $(MANUAL_LINKS); do m=$${m%:*}; rm -f $(MAN)/man$${m##*.}/$$m; done
	rm -rf $(DOC)

include packaging/packaging.mk

# -- housekeeping -----------------------------------------------------------------------------

SOURCES = $(wildcard include/*.h client/*/*.[ch] daemon/*.[ch] daemon/*/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch])
SCRIPTS = .ci/run packaging/deps packaging/make-deb tests/run tests/model/run \
	$(wildcard tests/*/*.sh tests/*/*/*.sh tests/install/system/run)
# Neither tool understands __attribute__((cleanup)) or the -1 of mmap(), so these checks are off.
TIDY = -*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions,\
-bugprone-reserved-identifier,-bugprone-implicit-widening-of-multiplication-result,\
-bugprone-sizeof-expression,clang-analyzer-security.FloatLoopCounter,clang-analyzer-unix.API
CPPCHECK = --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --library=posix \
	$(addprefix --suppress=,resourceLeak memleak ctunullpointer invalidFunctionArg \
	leakReturnValNotUsed getgrgidCalled getgrnamCalled)
# For clangd, which finds build/ by itself, and for clang-tidy. A folder's time changes when a file is added or removed.
COMPILED = $(filter %.c,$(SOURCES))
comma = ,
entry = {"directory": "$(CURDIR)", "file": "$(1)", "command": "$(subst ",\",$(subst \,\\,$(strip \
	$(CC) $(ALL_CFLAGS) $(call includes_of,$(1)) -c $(1))))"}
$(BUILD)/compile_commands.json: Makefile $(sort $(dir $(COMPILED)))
	$(shell mkdir -p $(@D))$(file >$@,[)
	$(foreach f,$(COMPILED),$(file >>$@,$(call entry,$(f))$(if $(filter-out $(f),$(lastword $(COMPILED))),$(comma))))
	$(file >>$@,])

LINTED = $(wildcard client/*/*.c daemon/*.c daemon/*/*.c)

lint: $(BUILD)/compile_commands.json
	@packaging/deps lint
	shellcheck $(SCRIPTS)
	cppcheck -q $(CPPCHECK) -Iinclude $(addprefix -I,$(FOLDERS)) client daemon
	clang-tidy --quiet -p $(BUILD) --warnings-as-errors='*' --checks='$(TIDY)' $(LINTED)
	clang-format --dry-run -Werror $(SOURCES)

format:
	clang-format -i $(SOURCES)

clean:
	rm -rf $(BUILD) build-narrow build-tsan build-asan build-fuzz $(PORTS:%=build-%) build-sysroot

.PHONY: all help deps install uninstall lint format clean
.SECONDARY:
.DELETE_ON_ERROR:
