# SPDX-License-Identifier: MIT
#
# Tests that take longer than `make check` or need other tools, and `make bench`. tests/README.md says
# what each test shows.

# Checks all models; `make check` checks the small ones.
model: deps
	@tests/model/run $(BUILD) all

MINUTES = 10
soak: deps
	$(QUIETLY) $(BUILD)/tests/torture/torture
	$(BUILD)/tests/torture/torture --soak --seconds $$(($(MINUTES) * 60)) --seed $(SEED)

# `make check` runs the same tests on a sample of the points.
STRIDE = 1
CRASH = $(BUILD)/tests/unit/test-crash $(BUILD)/tests/integration/test-kill-client \
	$(BUILD)/tests/integration/test-kill-daemon
crash: deps
	$(QUIETLY) $(CRASH)
	@for test in $(CRASH); do STRIDE=$(STRIDE) $$test || exit 1; done

# `make check` runs the same tests on a sample of the calls.
INJURED = $(FAULTS) $(BUILD)/tests/unit/test-store-damage
faults: deps
	$(QUIETLY) $(INJURED)
	@FAULTS=all PARTS= ALLOWED=3000 CK_TIMEOUT_MULTIPLIER=60 tests/run $(BUILD) 0 $(SEED) $(INJURED)

# Each fuzzer runs for FUZZ_SECONDS. Inputs that fail are in build-fuzz/found; keep them in
# tests/fuzz/seeds.
FUZZ_SECONDS = 60
fuzz: deps
	@packaging/deps fuzz
	$(QUIETLY) BUILD=build-fuzz CC=clang FUZZ_MAIN= LDFLAGS=-fsanitize=fuzzer \
		CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
		-fno-sanitize-recover=undefined' $(FUZZERS:%=build-fuzz/%)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) ALLOWED=$$(($(FUZZ_SECONDS) + 300)) UNDER=tests/fuzz/run.sh PARTS= \
		tests/run build-fuzz 0 $(SEED) $(FUZZERS:%=build-fuzz/%)
	@tail -qn 1 $(FUZZERS:tests/fuzz/%=build-fuzz/tests/log/fuzz-%)

# The stall explorer. The sources under test are compiled so that they call the explorer at each access. Their
# static variables are in a section of their own, so that the explorer can reset them before each run.
EXPLORED = $(patsubst %,client/core/%,counter counter-step directory denials wake layout) client/wire/name client/wire/utf8 \
	$(patsubst %,client/lib/%,pool path-cache thread acquire acquire-general) \
	$(patsubst %,daemon/%,holders/sessions holders/ranges shared/directory-write upkeep/recount)
EXPLORER = $(BUILD)/tests/explore/explore
$(BUILD)/explored/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(call includes_of,$<) -fsanitize=thread -Wno-tsan -include tests/explore/seam.h -MMD -MP -c $< -o $@
-include $(wildcard $(BUILD)/explored/*/*/*.d)
$(BUILD)/explored/explored.o: $(EXPLORED:%=$(BUILD)/explored/%.o)
	$(call say,LD,$@)
	$(Q)$(LD) -r $^ -o $@
	$(Q)$(OBJCOPY) $(foreach part,.data .data.rel .data.rel.local,--rename-section $(part)=explored_data) \
		--rename-section .bss=explored_bss $@
$(EXPLORER): $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/explore/*.c)) $(BUILD)/explored/explored.o
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@

# `make check` runs a sample. mutants.sh removes one safety step of the code at a time, and the
# explorer must find a fault each time.
EXPLORE_SECONDS = 600
explore: deps
	$(QUIETLY) $(EXPLORER)
	$(EXPLORER) --script
	$(EXPLORER) --seconds $(EXPLORE_SECONDS) $(if $(filter-out 0,$(SEED)),--first $(SEED))
	tests/explore/mutants.sh $(BUILD) 120

# -- the same tests under other tools, in build directories of their own ------------------------

# The tests that run with a sanitizer. A sanitizer makes system calls, which test-no-syscalls forbids. It turns one
# instruction into many, but test-crash and test-kill-* step through every instruction, and test-instructions
# counts them. And it replaces malloc, as test-faults-* do.
SANITIZED = $(filter-out %/test-crash %/test-instructions %/test-no-syscalls \
	tests/integration/test-kill-% tests/integration/test-faults-%,$(TESTS) $(FUZZERS))
REPORTS = halt_on_error=1:log_path=$(CURDIR)/$(1)/tests/reports/process

# ThreadSanitizer needs fixed addresses, so address randomisation is off. It runs a thread of its
# own, whose wake-ups test-idle would count.
UNDER_TSAN = $(filter-out %/test-idle,$(SANITIZED:%=build-tsan/%))
tsan: deps
	$(QUIETLY) BUILD=build-tsan CFLAGS='-O1 -g -fsanitize=thread -Wno-tsan' \
		build-tsan/berthctl $(UNDER_TSAN)
	@CK_TIMEOUT_MULTIPLIER=10 ALLOWED=3000 TURNS=400000 PARTS= TSAN_OPTIONS=$(call REPORTS,build-tsan):die_after_fork=0 \
		setarch -R tests/run build-tsan 0 $(SEED) $(UNDER_TSAN)

# In gcc 12, AddressSanitizer doesn't take the locks of its allocator before a fork. So a child of a process with
# threads may wait for ever in malloc.
sanitize: deps
	$(QUIETLY) BUILD=build-asan CFLAGS='-O1 -g -fno-omit-frame-pointer \
		-fsanitize=address,undefined -fno-sanitize-recover=undefined' \
		$(addprefix build-asan/,berthctl tests/torture/torture tests/install/demo-server $(SANITIZED))
	@CK_TIMEOUT_MULTIPLIER=10 ALLOWED=3000 PARTS='demo torture' \
		WITHOUT=forks_in_one_thread_while_others_acquire_do_no_harm ASAN_OPTIONS=$(call REPORTS,build-asan) UBSAN_OPTIONS=print_stacktrace=1 \
		tests/run build-asan $(SECONDS) $(SEED) $(SANITIZED:%=build-asan/%)

# valgrind doesn't support seccomp and ptrace (SANITIZED leaves out these tests), nor pidfd_open
# (pidfd.c replaces it). With SCALE=10, tests do a tenth of their work.
MEMCHECKED = $(SANITIZED)
MEMCHECK = $(BUILD)/tests/valgrind/pidfd-server $(BUILD)/tests/valgrind/pidfd.so
$(BUILD)/tests/valgrind/pidfd-server: $(BUILD)/tests/valgrind/pidfd-server.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ -o $@
$(BUILD)/tests/valgrind/pidfd.so: $(BUILD)/tests/valgrind/pidfd.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared $^ -ldl -o $@
valgrind: deps
	@packaging/deps valgrind
	$(QUIETLY) all $(MEMCHECK) $(MEMCHECKED:%=$(BUILD)/%)
	@ALLOWED=3000 UNDER=tests/valgrind/memcheck.sh PARTS= CK_TIMEOUT_MULTIPLIER=20 TURNS=20000 SCALE=10 \
		tests/run $(BUILD) 0 $(SEED) $(MEMCHECKED:%=$(BUILD)/%)

# Builds and tests berth with other compilers, for another architecture, and with another C library.
PORTS = gcc clang aarch64 musl
portable: deps
	@packaging/deps portable
	$(QUIETLY) all
	@tests/install/portable.sh $(PORTS)

# Prints the table of test-instructions. With HELD=1000000, it has more rows, for a process that holds a million
# slots, and takes longer.
INSTRUCTIONS = $(BUILD)/tests/integration/test-instructions
instructions: deps
	$(QUIETLY) $(INSTRUCTIONS)
	@CK_VERBOSITY=silent HELD=$(HELD) $(INSTRUCTIONS)

# Measures berth and its peers; leaves out a peer whose package is missing. ONLY=fast,scale measures these
# families only.
BENCH = $(call objects,tests/bench) tests/lib/harness.o client/wire/message.o
$(BUILD)/tests/bench/bench: $(BENCH:%=$(BUILD)/%) $(PROGRAMS)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(filter %.o,$^) -L$(BUILD) -lberth -llmdb -lm \
		-Wl,-rpath,'$$ORIGIN/../..' -o $@
bench: deps
	@packaging/deps bench || echo 'Going on without these packages.'
	$(QUIETLY) $(BUILD)/tests/bench/bench
	@$(BUILD)/tests/bench/bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(BUILD)/bench

.PHONY: bench explore instructions portable model soak crash faults fuzz tsan sanitize valgrind
