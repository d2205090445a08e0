# SPDX-License-Identifier: MIT
#
# Builds the test programs; `make demo`, `test`, `check` and `torture`. tests/README.md says what each test shows.

# How long the torture test runs in `make test`, and the seed of all tests (0: a new seed, which is printed).
SECONDS = 30
SEED = 0

# -- building -----------------------------------------------------------------------------------

# Test programs, in the order in which they run. All files of torture/ are one program.
TESTS = $(patsubst %.c,%,$(wildcard tests/unit/test-*.c tests/integration/test-*.c))
TORTURE = $(call objects,tests/torture) tests/lib/audit.o tests/lib/harness.o \
	$(filter-out daemon/main.o,$(DAEMON))

# Unit tests and fuzzers see every function of daemon, library and command except the mains.
# Symbols are bound at the start, so that tests don't single-step through the dynamic linker.
TEST_LDFLAGS = $(LDFLAGS) -Wl,-z,now
TESTED = $(sort $(LIBRARY) $(filter-out client/ctl/main.o,$(COMMAND)) $(filter-out daemon/main.o,$(DAEMON)))
TESTED_LIBS = $(DAEMON_LIBS) -lsmartcols
$(BUILD)/tests/unit/test-%: $(BUILD)/tests/unit/test-%.o $(BUILD)/tests/lib/run.o $(TESTED:%=$(BUILD)/%)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(TEST_LDFLAGS) $^ $(TESTED_LIBS) -lcheck -lsubunit -lm -lrt -o $@

# Integration tests use the real libberth.so and the real berthd, as users do. Some tests also read the
# shared files directly.
USER_LIBS = -L$(BUILD) -lberth -llmdb -lcheck -lsubunit -lm -lrt
PROGRAMS = $(BUILD)/libberth.so $(BUILD)/berthd $(BUILD)/berthctl
$(BUILD)/tests/integration/%: $(BUILD)/tests/integration/%.o $(addprefix $(BUILD)/tests/lib/,harness.o run.o) \
		$(SHARED:%=$(BUILD)/%) $(PROGRAMS)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(TEST_LDFLAGS) $(filter %.o,$^) $(USER_LIBS) -Wl,-rpath,'$$ORIGIN/../..' -o $@
KILL = $(addprefix tests/lib/,ptrace.o kill.o audit.o)
$(BUILD)/tests/integration/test-kill-client $(BUILD)/tests/integration/test-kill-daemon: \
	$(KILL:%=$(BUILD)/%)
$(BUILD)/tests/integration/test-instructions: $(BUILD)/tests/lib/instructions.o $(BUILD)/tests/lib/ptrace.o
$(BUILD)/tests/unit/test-crash: $(BUILD)/tests/lib/ptrace.o $(BUILD)/tests/lib/audit.o
$(BUILD)/tests/install/demo-server: $(BUILD)/tests/install/demo-server.o $(PROGRAMS)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(filter %.o,$^) -L$(BUILD) -lberth -Wl,-rpath,'$$ORIGIN/../..' -o $@

# libinject.so makes calls fail. It is preloaded into berthd; test-faults-client has it linked in.
INJECT = $(BUILD)/tests/lib/libinject.so
FAULTS = $(filter $(BUILD)/tests/integration/test-faults-%,$(TESTS:%=$(BUILD)/%))
$(INJECT): $(BUILD)/tests/lib/inject.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared $^ -o $@
$(FAULTS): $(INJECT)
$(BUILD)/tests/integration/test-faults-client: $(BUILD)/tests/lib/inject.o

# With replay.c, a fuzzer runs its seeds once. With libFuzzer instead, it generates further inputs.
FUZZERS = $(patsubst %.c,%,$(wildcard tests/fuzz/fuzz-*.c))
FUZZ_MAIN = $(BUILD)/tests/fuzz/replay.o
$(BUILD)/tests/fuzz/fuzz-%: $(BUILD)/tests/fuzz/fuzz-%.o $(BUILD)/tests/fuzz/fuzz.o $(FUZZ_MAIN) \
		$(TESTED:%=$(BUILD)/%)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(WRAP) $^ $(TESTED_LIBS) -o $@
WITH_DAEMON = $(addprefix $(BUILD)/tests/fuzz/fuzz-,clients admin import)
$(WITH_DAEMON): WRAP = -Wl,--wrap=message_receive
$(WITH_DAEMON): $(BUILD)/tests/fuzz/daemon.o $(BUILD)/tests/fuzz/messages.o

# The torture test uses the real libberth.so, and also reads the shared files directly.
$(BUILD)/tests/torture/torture: $(TORTURE:%=$(BUILD)/%) $(PROGRAMS)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(filter %.o,$^) $(USER_LIBS) $(DAEMON_LIBS) -Wl,-rpath,'$$ORIGIN/../..' -o $@

tests: all $(TESTS:%=$(BUILD)/%) $(FUZZERS:%=$(BUILD)/%) $(BUILD)/tests/torture/torture $(BUILD)/tests/install/demo-server \
	$(BUILD)/tests/bench/bench $(BUILD)/install/berthctl

# With this few bits, records use up their sequence numbers all the time.
narrow:
	$(QUIETLY) BUILD=build-narrow CPPFLAGS='$(CPPFLAGS) -DBERTH_SEQ_BITS=13' build-narrow/tests/torture/torture

# -- running ------------------------------------------------------------------------------------

demo: deps
	@echo 'Building berth'
	$(QUIETLY) $(BUILD)/tests/install/demo-server
	@BUILD=$(BUILD) tests/install/demo.sh

# T=PROGRAM, T=PROGRAM:TEST or T=SCRIPT runs only that. T may name the folder: T=unit/test-store.
T =
NAME = $(firstword $(subst :, ,$(T)))
CASE = $(word 2,$(subst :, ,$(T)))
SCRIPTED = $(sort $(basename $(notdir $(wildcard tests/docs/*.sh tests/install/demo*.sh tests/install/install.sh))))
PART = $(filter $(NAME),$(SCRIPTED))
NAMED = $(filter %/$(NAME),$(TESTS) $(FUZZERS))
# A unit test and an integration test may have the same name. For PROGRAM:TEST, only the program that has TEST runs.
ONE = $(or $(if $(CASE),$(patsubst %.c,%,$(shell grep -l 'START_TEST($(CASE))' $(NAMED:=.c) /dev/null))),$(NAMED))
ALL_NAMES = $(patsubst tests/%,%,$(TESTS) $(FUZZERS)) $(SCRIPTED)
NEAR = $(strip $(foreach name,$(ALL_NAMES),$(if $(findstring $(NAME),$(name)),$(name))))

ifneq ($(T),)
test:
	$(if $(ONE)$(PART),,@printf '%s\n' "There is no test '$(NAME)'. There are:" $(or $(NEAR),$(ALL_NAMES)) >&2; exit 2)
	$(QUIETLY) $(ONE:%=$(BUILD)/%) $(if $(PART),$(FOR_PARTS))
	@$(if $(CASE),CK_RUN_CASE='$(CASE)') PARTS='$(PART)' tests/run $(BUILD) 0 $(SEED) $(ONE:%=$(BUILD)/%)
else
test:
	@packaging/deps --dry-run
	@echo 'Building berth and its tests'
	$(QUIETLY) tests narrow $(EXPLORER)
	@tests/run $(BUILD) $(SECONDS) $(SEED) $(TESTS:%=$(BUILD)/%) $(EXPLORER) $(FUZZERS:%=$(BUILD)/%)
endif
FOR_PARTS = all $(BUILD)/install/berthctl $(BUILD)/tests/install/demo-server

check: deps
	+@$(MAKE) --no-print-directory test

# The tests that the build of a package runs: they need no root, no network and no ptrace, mount nothing, and
# take less time.
PLAIN = $(filter-out tests/unit/test-crash tests/integration/test-instructions \
	tests/integration/test-kill-% tests/integration/test-faults-%,$(TESTS))
buildtest: tests
	@PARTS='demo install' tests/run $(BUILD) 0 $(SEED) $(PLAIN:%=$(BUILD)/%)

torture: deps
	$(QUIETLY) $(BUILD)/tests/torture/torture
	$(BUILD)/tests/torture/torture --seconds $(SECONDS) --seed $(SEED)

# For tests/docs/includes.sh. print-layers prints each folder of the product, ":", and the folders whose headers
# it may include. print-flags prints the compiler flags for the files of FOLDER.
print-layers:
	$(foreach f,$(FOLDERS:%/=%),$(info $(f): $(may_$(f))))@:
print-flags:
	$(info $(ALL_CFLAGS) $(call includes_of,$(FOLDER)/any.c))@:

.PHONY: tests narrow demo test check buildtest torture print-layers print-flags
