/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Signals that end a process, and those that ask it to end. */
#ifndef __SIGNAL_BPF_H__
#define __SIGNAL_BPF_H__

#include "exit.bpf.h"
#include "record.bpf.h"

/* Direct reads need constant indices: one load for each signal that can end a process. */
#define HANDLER(n)                                                                                 \
	case n:                                                                                    \
		handler = (__u64)sighand->action[n - 1].sa.sa_handler;                             \
		break

/*
 * Whether sig will wait: a thread that waits for it by sigtimedwait has it unblocked
 * meanwhile, and what it blocks otherwise in real_blocked.
 */
static __always_inline bool is_blocked(struct task_struct *task, int sig)
{
	unsigned long set = task->blocked.sig[0] | task->real_blocked.sig[0];

	return set >> ((sig - 1) & 63) & 1;
}

/* What sig does to task, of signals that end a process by default; 0 for the others. */
static __always_inline __u32 effect_of(struct task_struct *task, int sig)
{
	struct sighand_struct *sighand = task->sighand;
	__u64 handler;

	switch (sig) {
	case 9: /* SIGKILL */
		return SIGNAL_FATAL;
		HANDLER(1);
		HANDLER(2);
		HANDLER(3);
		HANDLER(4);
		HANDLER(5);
		HANDLER(6);
		HANDLER(7);
		HANDLER(8);
		HANDLER(10);
		HANDLER(11);
		HANDLER(12);
		HANDLER(13);
		HANDLER(14);
		HANDLER(15);
		HANDLER(16);
		HANDLER(24);
		HANDLER(25);
		HANDLER(26);
		HANDLER(27);
		HANDLER(29);
		HANDLER(30);
		HANDLER(31);
	default:
		return 0;
	}
	if (handler == 1 /* SIG_IGN */)
		return SIGNAL_IGNORED;
	if (handler != 0 /* SIG_DFL */)
		return SIGNAL_CAUGHT;
	return is_blocked(task, sig) ? SIGNAL_BLOCKED : SIGNAL_FATAL;
}

/* Whether sig asks a process to end, in the way of INT, QUIT, ABRT, TERM and HUP. */
static __always_inline bool asks_to_end(int sig)
{
	return sig == 1 || sig == 2 || sig == 3 || sig == 6 || sig == 15;
}

/*
 * Whether the kernel made the signal: a fault, a terminal, a timer. What processes send
 * has a code of 0 (kill), -1 (sigqueue) or -6 (tgkill).
 */
static __always_inline bool is_kernels(struct kernel_siginfo *info)
{
	int code;

	if ((__u64)info == 1 /* SEND_SIG_PRIV */)
		return true;
	if ((__u64)info <= 1)
		return false;
	code = info->si_code;
	return code > 0 || code == -2 /* SI_TIMER */;
}

/*
 * At most CAUGHT_BURST records about one target in CAUGHT_WINDOW ns. A service may be
 * asked to end again and again; what it is asked by other signals is not looked at.
 */
#define CAUGHT_BURST   16
#define CAUGHT_WINDOW  1000000000ULL
#define CAUGHT_TARGETS 4096

struct caught_target {
	__u64 start;
	__u64 pid;
};

struct caught_window {
	__u64 since;
	__u32 sent;
	__u32 suppressed;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, CAUGHT_TARGETS);
	__type(key, struct caught_target);
	__type(value, struct caught_window);
} caught SEC(".maps");

/*
 * Whether another record about the target may be sent; suppressed is how many were not
 * since the last one. Signals to one process exclude each other by its sighand's lock.
 */
static __always_inline bool may_tell(struct ring_counters *state, struct task_struct *task,
				     __u64 now, __u32 *suppressed)
{
	struct caught_target key = {.start = task->group_leader->start_boottime, .pid = task->tgid};
	struct caught_window *window = bpf_map_lookup_elem(&caught, &key);
	struct caught_window first = {.since = now, .sent = 1};

	*suppressed = 0;
	if (!window) {
		bpf_map_update_elem(&caught, &key, &first, 0 /* BPF_ANY */);
		return true;
	}
	if (now - window->since > CAUGHT_WINDOW) {
		window->since = now;
		window->sent = 0;
	}
	if (window->sent >= CAUGHT_BURST) {
		window->suppressed++;
		__sync_fetch_and_add(&state->suppressed, 1);
		return false;
	}
	window->sent++;
	*suppressed = window->suppressed;
	window->suppressed = 0;
	return true;
}

/* The number of the process that runs, in the reader's namespace below the initial one. */
static __always_inline __u32 current_number(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return nested_raw(BPF_CORE_READ(task, group_leader, thread_pid));
}

/*
 * Whether a signal that does not end its target now is worth a record: one that asks it to
 * end and does not come from itself, or one that will end it when it is unblocked.
 */
static __always_inline bool is_notable(struct task_struct *task, int sig, __u32 effect,
				       bool from_kernel)
{
	if (effect == SIGNAL_BLOCKED)
		return true;
	return asks_to_end(sig) &&
	       (from_kernel || bpf_get_current_pid_tgid() >> 32 != (__u32)task->tgid);
}

SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal, int sig, struct kernel_siginfo *info, struct task_struct *task, int group,
	     int result)
{
	struct ring_counters *state;
	struct signal_event *e;
	__u32 effect, suppressed = 0;
	__u8 kind = EVENT_SIGNAL;
	bool from_kernel;
	__u64 now, ids;

	if (result != TRACE_SIGNAL_DELIVERED && result != TRACE_SIGNAL_IGNORED)
		return 0;
	effect = effect_of(task, sig);
	if (result == TRACE_SIGNAL_IGNORED && effect != SIGNAL_IGNORED)
		return 0; /* an init, which nothing ends that it does not catch */
	from_kernel = is_kernels(info);
	if (effect != SIGNAL_FATAL) {
		if (!effect || !is_notable(task, sig, effect, from_kernel))
			return 0;
		kind = EVENT_CAUGHT;
	}
	if (!is_visible(task))
		return 0;
	state = get_state();
	if (!state)
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (kind == EVENT_CAUGHT && !may_tell(state, task, now, &suppressed))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, kind);
		return 0;
	}
	if (!fill_header(&e->hdr, state, task, kind, now)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->hdr.ordinal = now;
	ids = bpf_get_current_pid_tgid();
	/* No start: direct reads do not reach whoever runs. The reader finds it by the pid. */
	e->sender.host_pid = ids >> 32;
	e->sender.pid = reader_ns == 0 ? ids >> 32 : current_number();
	e->sender.start = 0;
	e->sender_uid = bpf_get_current_uid_gid();
	e->signal = sig;
	e->from_kernel = from_kernel;
	e->effect = effect;
	e->suppressed = suppressed;
	e->pad = 0;
	__builtin_memset(e->sender_comm, 0, sizeof(e->sender_comm));
	bpf_get_current_comm(e->sender_comm, sizeof(e->sender_comm));
	/* What anyone waits for is the exit that follows: the reader shall be up by then. */
	submit(state, e, now, kind == EVENT_SIGNAL && may_have_children(task));
	return 0;
}

#endif
