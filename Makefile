# SPDX-License-Identifier: MIT
# berth. `make help` says what can be made.

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

# The folders whose headers a folder's files may include, beside its own: those below it. An include
# that isn't allowed doesn't compile (tests/docs/includes.sh tries).
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
# Tests see all of them, and tests/lib.
TESTS_MAY = tests/lib client/lib client/ctl daemon $(may_daemon)
includes_of = $(patsubst %,-iquote %,$(if $(filter tests/%,$(1)),$(TESTS_MAY),$(may_$(patsubst %/,%,$(dir $(1))))))

# What daemon and library share; the library; the command; the daemon.
objects = $(patsubst %.c,%.o,$(wildcard $(addsuffix /*.c,$(1))))
WIRE = $(call objects,client/wire)
SHARED = $(WIRE) $(call objects,client/core)
LIBRARY = $(filter-out client/wire/lines.o,$(SHARED)) $(call objects,client/lib)
COMMAND = $(WIRE) $(call objects,client/ctl)
DAEMON = $(SHARED) $(call objects,daemon daemon/*)
DAEMON_LIBS = -llmdb -lsystemd

# A make of our own that shows warnings and errors only, and uses every CPU.
QUIETLY = +@$(MAKE) -s $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

all: $(BUILD)/berthd $(BUILD)/berthctl $(BUILD)/libberth.so $(BUILD)/libberth.a $(BUILD)/compile_commands.json

help:
	@echo 'make            build berthd, berthctl and libberth into $(BUILD)/'
	@echo 'make demo       see it work, in a private directory'
	@echo 'make check      install what is missing, then make test'
	@echo 'make test       run every test (SECONDS=n: of torture; SEED=n: as it was then). It installs nothing'
	@echo 'make test T=test-pool        run one program, or one part: T=drift'
	@echo 'make test T=test-pool:NAME   run one test of it (make check T=... does the same)'
	@echo 'make buildtest  the tests that need no root, no ptrace and little time, as for a package'
	@echo 'make crash      kill berthd and its clients at every instruction (STRIDE=n: every nth)'
	@echo 'make model      check the models of the counter with spin, and each safety step taken away'
	@echo 'make explore    the real code in a million schedules with stalls and kills (EXPLORE_SECONDS=n)'
	@echo 'make torture    the torture test alone (SECONDS, SEED)'
	@echo 'make faults     fail every call that can fail, and every byte of the store'
	@echo 'make fuzz       look for messages, imports and names that do harm (FUZZ_SECONDS=n each)'
	@echo 'make tsan       the tests, the stress of threads above all, under ThreadSanitizer'
	@echo 'make sanitize   the tests and the torture under AddressSanitizer and UBSan'
	@echo 'make valgrind   the tests, berthd and berthctl under memcheck (long)'
	@echo 'make soak       a billion operations, ten thousand kills; nothing grows (MINUTES=n)'
	@echo 'make portable   gcc, clang, aarch64 under qemu-user, libberth with musl (PORTS=aarch64 ...)'
	@echo 'make instructions count what an acquire and a release execute (HELD=n: many slots held)'
	@echo 'make bench      berth beside its peers: tables in $(BUILD)/bench (QUICK=1: a minute)'
	@echo 'make deb        Debian packages, in $(BUILD)/deb; packagetest: judge them'
	@echo 'make systemtest the packages on a systemd of their own, in a container; as root'
	@echo 'make install    into PREFIX=$(PREFIX) LIBDIR= MANDIR=, under DESTDIR; install-systemd: the units'
	@echo 'make uninstall  remove what these put there'
	@echo 'make deps       install what building and testing need (demo and check do so, too)'
	@echo 'make lint       shellcheck, cppcheck, clang-tidy; clang-format without changes'
	@echo 'make format     clang-format, in place'
	@echo 'make clean      remove what was built'

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
# One object whose hidden names are its own, so that they can't meet those of a program.
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

# How test programs are built and run; then the longer proofs, the sanitizers, and bench.
include tests/lib/tests.mk
include tests/lib/campaigns.mk

# -- installation -----------------------------------------------------------------------------

# As build/berthctl, but for the path by which that finds build/libberth.so.
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

# Pages by section, and functions that are described on another's page.
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
# Neither tool knows __attribute__((cleanup)), or mmap's -1: what they say of those is left out.
TIDY = -*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions,\
-bugprone-reserved-identifier,-bugprone-implicit-widening-of-multiplication-result,\
-bugprone-sizeof-expression,clang-analyzer-security.FloatLoopCounter,clang-analyzer-unix.API
CPPCHECK = --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --library=posix \
	$(addprefix --suppress=,resourceLeak memleak ctunullpointer invalidFunctionArg \
	leakReturnValNotUsed getgrgidCalled getgrnamCalled)
# For clangd, which looks into build/ by itself. The folders' times tell that a file came or went.
COMPILED = $(filter %.c,$(SOURCES))
comma = ,
entry = {"directory": "$(CURDIR)", "file": "$(1)", "command": "$(subst ",\",$(subst \,\\,$(strip \
	$(CC) $(ALL_CFLAGS) $(call includes_of,$(1)) -c $(1))))"}
$(BUILD)/compile_commands.json: Makefile $(sort $(dir $(COMPILED)))
	$(shell mkdir -p $(@D))$(file >$@,[)
	$(foreach f,$(COMPILED),$(file >>$@,$(call entry,$(f))$(if $(filter-out $(f),$(lastword $(COMPILED))),$(comma))))
	$(file >>$@,])

LINTED = $(wildcard client/*/*.c daemon/*.c daemon/*/*.c)
FLAGS_OF_LINT = -Iinclude $(addprefix -I,$(FOLDERS))

lint:
	@packaging/deps lint
	shellcheck $(SCRIPTS)
	cppcheck -q $(CPPCHECK) $(FLAGS_OF_LINT) client daemon
	clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY)' $(LINTED) \
		-- -std=gnu11 -D_GNU_SOURCE -DBERTH_VERSION='""' $(FLAGS_OF_LINT)
	clang-format --dry-run -Werror $(SOURCES)

format:
	clang-format -i $(SOURCES)

clean:
	rm -rf $(BUILD) build-narrow build-tsan build-asan build-fuzz $(PORTS:%=build-%) build-sysroot

.PHONY: all help deps install uninstall lint format clean
.SECONDARY:
.DELETE_ON_ERROR:
