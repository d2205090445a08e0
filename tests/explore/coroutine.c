/* SPDX-License-Identifier: MIT */

/* Switches between the stacks of the scheduler and of the coroutines. On x86-64 a switch is a few
 * instructions, and takes nanoseconds. On other machines ucontext makes the switch. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "thread.h"
#include "parties.h"

struct coroutine *running;

static void coroutine_enter(void) {
	running->body(running);
	/* A body never returns. When it has nothing left to do, it pauses again and again. */
	abort();
}

#ifdef __x86_64__

static void *scheduler;

/* Pushes the registers that a function must preserve, and saves the stack pointer in *save. Then
 * switches to the stack pointer `to`, and pops the registers that were pushed there. */
__attribute__((naked, noinline)) static void stack_switch(
	__attribute__((unused)) void **save, __attribute__((unused)) void *to) {
	__asm__("push %rbp\n\tpush %rbx\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
		"mov %rsp, (%rdi)\n\tmov %rsi, %rsp\n\t"
		"pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbx\n\tpop %rbp\n\tret");
}

static void context_start(struct coroutine *c) {
	void **top = (void **)(void *)(c->stack + STACK_SIZE);

	*--top = NULL; /* the return address of coroutine_enter, which never returns */
	*--top = (void *)(uintptr_t)coroutine_enter;
	for (int i = 0; i < 6; i++)
		*--top = NULL;
	c->stack_pointer = top;
}

static void context_resume(struct coroutine *c) {
	stack_switch(&scheduler, c->stack_pointer);
}

static void context_pause(struct coroutine *c) {
	stack_switch(&c->stack_pointer, scheduler);
}

#else

#include <ucontext.h>

static ucontext_t scheduler;

static void context_start(struct coroutine *c) {
	ucontext_t *own = c->stack_pointer;

	if (!own)
		own = c->stack_pointer = calloc(1, sizeof(*own));
	if (!own || getcontext(own) < 0)
		abort();
	own->uc_stack.ss_sp = c->stack;
	own->uc_stack.ss_size = STACK_SIZE;
	makecontext(own, coroutine_enter, 0);
}

static void context_resume(struct coroutine *c) {
	(void)swapcontext(&scheduler, c->stack_pointer);
}

static void context_pause(struct coroutine *c) {
	(void)swapcontext(c->stack_pointer, &scheduler);
}

#endif

/* The value of thread_self in a new thread, in which libberth has stored nothing yet. */
static struct thread *unknown;

void coroutines_prepare(void) {
	if (!unknown)
		unknown = thread_self;
	thread_self = unknown;
	seam_thread_forget();
}

void coroutine_start(struct coroutine *c, void (*body)(struct coroutine *c)) {
	if (!c->stack)
		c->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->stack == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	c->body = body;
	c->alive = true;
	c->parked = false;
	c->sleeps_until = 0;
	c->ready = NULL;
	if (!c->thread_self)
		c->thread_self = unknown;
	memset(c->seen, 0, sizeof(c->seen));
	context_start(c);
}

void coroutine_resume(struct coroutine *c) {
	struct thread *scheduler_thread = thread_self;

	running = c;
	thread_self = c->thread_self;
	context_resume(c);
	c->thread_self = thread_self;
	thread_self = scheduler_thread;
	running = NULL;
}

void coroutine_pause(void) {
	context_pause(running);
}

void coroutine_await(bool (*ready)(void *), void *data) {
	running->ready = ready;
	running->ready_data = data;
	coroutine_pause();
	running->ready = NULL;
}
