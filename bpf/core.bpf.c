//go:build ignore

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The core object: fork, exec, exit, signals, OOM, and the task iterator.
 * BTF reads only (see record.bpf.h), so it loads wherever tp_btf does, also under
 * confidentiality lockdown. Thread-only events end here.
 */
#include "record.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Keeps the types in BTF for the generator. */
const struct event_header *unused_event_header __attribute__((unused));
const struct fork_event *unused_fork_event __attribute__((unused));
const struct exec_event *unused_exec_event __attribute__((unused));
const struct exit_event *unused_exit_event __attribute__((unused));
const struct signal_event *unused_signal_event __attribute__((unused));
const struct oom_event *unused_oom_event __attribute__((unused));
const struct child_event *unused_child_event __attribute__((unused));
const struct move_event *unused_move_event __attribute__((unused));
const struct task_record *unused_task_record __attribute__((unused));
const struct usage_record *unused_usage_record __attribute__((unused));
const struct thread_record *unused_thread_record __attribute__((unused));
const struct ring_counters *unused_ring_counters __attribute__((unused));
const enum event_kind *unused_event_kind __attribute__((unused));
const enum origin_flags *unused_origin_flags __attribute__((unused));
const enum exec_flags *unused_exec_flags __attribute__((unused));
const enum exit_flags *unused_exit_flags __attribute__((unused));
const enum signal_effect *unused_signal_effect __attribute__((unused));
const enum task_flags *unused_task_flags __attribute__((unused));

/*
 * The pid namespace that task lives in: unshare and setns move only that of its children,
 * downwards, and setns by as many levels as there are.
 */
static __always_inline struct pid_namespace *namespace_of(struct task_struct *task)
{
	struct pid_namespace *ns = task->nsproxy->pid_ns_for_children;
	__u32 level = task->group_leader->thread_pid->level;

	for (int i = 0; i < MAX_NS_DEPTH; i++) {
		if (ns->level <= level)
			break;
		ns = ns->parent;
	}
	return ns;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct ring_counters *state;
	struct fork_event *e;
	__u64 now;

	if (child->group_leader != child || !is_visible(child))
		return 0;
	state = get_state();
	if (!state)
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_FORK);
		return 0;
	}
	if (!fill_header(&e->hdr, state, child, EVENT_FORK, now)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	identify(&e->spawner, child->real_parent);
	identify(&e->caller, parent);
	e->cgroup = cgroup_of(child);
	fill_origin(&e->origin, child);
	if (namespace_of(child)->child_reaper == child)
		e->origin.flags |= ORIGIN_NS_INIT;
	if (child->cgroups != parent->group_leader->cgroups)
		e->origin.flags |= ORIGIN_MOVED;
	submit(state, e, now, false);
	return 0;
}

/* Stands in where the args object, which sends the same record with the words, is not loaded. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	struct ring_counters *state = get_state();
	struct exec_event *e;
	__u64 now;

	if (!state || !is_visible(task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_EXEC);
		return 0;
	}
	if (!fill_header(&e->hdr, state, task, EVENT_EXEC, now)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->hdr.ordinal = task->self_exec_id;
	e->cgroup = cgroup_of(task);
	fill_origin(&e->origin, task);
	e->flags = 0;
	e->filename_len = 0;
	e->args_offset = 0;
	e->args_len = 0;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	submit(state, e, now, false);
	return 0;
}

/* An empty list's head points to itself. */
static __always_inline bool list_empty(struct list_head *first)
{
	return first->next == first;
}

/*
 * Whether task has children, or in a race may have had some. Threads have children of their
 * own. One that dies while all others are dying gives them straight to the adopter, so that
 * the last thread never has them: of threads that are gone only their CPU time is left
 * (__exit_signal in kernel/exit.c adds it before it counts them out, and they have passed
 * on their children by then). The order of the reads follows from that.
 */
static __always_inline bool may_have_children(struct task_struct *task)
{
	int threads = *(volatile int *)&task->signal->nr_threads;

	return threads > 1 || task->signal->sum_sched_runtime != 0 ||
	       !list_empty(task->children.next);
}

/*
 * Whether the init of a namespace that task lives in is dying: the kernel then kills
 * all in it, in no order, before the init is gone. Nobody there is orphaned for long.
 */
static __always_inline bool namespace_ends(struct pid_namespace *ns)
{
	for (int i = 0; i < MAX_NS_DEPTH; i++) {
		if (ns->child_reaper->signal->live.counter == 0)
			return true;
		if (ns->level == 0)
			break;
		ns = ns->parent;
	}
	return false;
}

/*
 * Who will get the children: the rules of find_new_reaper in kernel/exit.c, for a
 * group without living threads.
 */
static __always_inline void find_adopter(struct exit_event *e, struct task_struct *task)
{
	struct task_struct *ancestor = task->real_parent;
	__u32 level = task->group_leader->thread_pid->level;
	struct pid_namespace *ns = namespace_of(task);
	struct task_struct *init = ns->child_reaper;

	if (namespace_ends(ns)) {
		e->flags |= EXIT_NS_ENDS;
		return;
	}
	if (BPF_CORE_READ_BITFIELD(task->signal, has_child_subreaper)) {
		int i;

		for (i = 0; i < MAX_ANCESTORS; i++) {
			if (ancestor->tgid == 0 || ancestor->thread_pid->level != level)
				break;
			if (BPF_CORE_READ_BITFIELD(ancestor->signal, is_child_subreaper) &&
			    ancestor->signal->live.counter > 0) {
				identify(&e->adopter, ancestor);
				e->flags |= EXIT_ADOPTER_SUBREAPER;
				return;
			}
			ancestor = ancestor->real_parent;
		}
		if (i == MAX_ANCESTORS)
			return; /* not known here */
	}
	identify(&e->adopter, init);
	e->flags |= EXIT_ADOPTER_INIT;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct ring_counters *state;
	struct exit_event *e;
	__u64 now;

	/*
	 * Only the last thread. Two that die together may both see 0, so the reader
	 * takes exits as idempotent.
	 */
	if (signal->live.counter != 0 || !is_visible(task))
		return 0;
	state = get_state();
	if (!state)
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_EXIT);
		return 0;
	}
	if (!fill_header(&e->hdr, state, task, EVENT_EXIT, now)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->flags = 0;
	e->euid = task->real_cred->euid.val;
	e->suid = task->real_cred->suid.val;
	__builtin_memset(&e->adopter, 0, sizeof(e->adopter));
	/* As wait_task_zombie reports it: the leader's code unless the group was ended as one. */
	if (signal->flags & SIGNAL_GROUP_EXIT)
		e->status = signal->group_exit_code;
	else
		e->status = task->group_leader->exit_code;
	e->peak_rss = signal->maxrss << page_shift;
	e->cpu_time = signal->sum_sched_runtime + task->se.sum_exec_runtime;
	if (signal->oom_mm)
		e->flags |= EXIT_OOM;
	/* Every other thread has it set: copy_process sets it, and only the one that executes clears it. */
	if (task->group_leader->flags & PF_FORKNOEXEC)
		e->flags |= EXIT_NEVER_EXECED;
	if (may_have_children(task))
		e->flags |= EXIT_HAS_CHILDREN;
	if (e->flags & EXIT_HAS_CHILDREN)
		find_adopter(e, task);
	submit(state, e, now, e->flags & EXIT_HAS_CHILDREN);
	return 0;
}

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

/*
 * Up to 6.1 the counters are an array of a typedef, into which the verifier follows no
 * direct read; without probe reads the figures stay 0 there.
 */
static __always_inline __s64 rss_pages_array(struct mm_struct___array *mm, bool swap)
{
	long count[NR_MM_COUNTERS] = {};

	if (probe_reads)
		BPF_CORE_READ_INTO(&count, mm, rss_stat.count);
	return swap ? count[MM_SWAPENTS]
		    : count[MM_FILEPAGES] + count[MM_ANONPAGES] + count[MM_SHMEMPAGES];
}

static __always_inline __u64 rss_pages(struct mm_struct *mm, bool swap)
{
	struct mm_struct___array *array = (void *)mm;
	struct mm_struct___percpu *percpu = (void *)mm;
	__s64 sum;

	if (!mm)
		return 0;
	if (bpf_core_field_exists(array->rss_stat.count))
		sum = rss_pages_array(array, swap);
	else
		sum = swap ? percpu->rss_stat[MM_SWAPENTS].count
			   : percpu->rss_stat[MM_FILEPAGES].count +
				      percpu->rss_stat[MM_ANONPAGES].count +
				      percpu->rss_stat[MM_SHMEMPAGES].count;
	return sum < 0 ? 0 : sum;
}

/* On newer kernels the victim itself is the argument. */
SEC("tp_btf/mark_victim")
int BPF_PROG(on_oom, struct task_struct *task)
{
	struct ring_counters *state = get_state();
	struct oom_event *e;
	__u64 now;

	if (!state || !is_visible(task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_OOM);
		return 0;
	}
	if (!fill_header(&e->hdr, state, task, EVENT_OOM, now)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->cgroup = cgroup_of(task);
	e->rss = rss_pages(task->mm, false) << page_shift;
	submit(state, e, now, true);
	return 0;
}

/* Before that, only a pid of the initial namespace: the reader finds the rest by it. */
SEC("tp_btf/mark_victim")
int BPF_PROG(on_oom_pid, int pid)
{
	struct ring_counters *state = get_state();
	struct oom_event *e;
	__u64 now;

	if (!state)
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_OOM);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->hdr.time = now;
	e->hdr.refused = state->refused;
	e->hdr.kind = EVENT_OOM;
	e->hdr.id.host_pid = pid;
	e->hdr.id.pid = reader_ns == 0 ? pid : 0;
	submit(state, e, now, true);
	return 0;
}

/*
 * Threads can be moved alone, but a process is where its leader is. In which hierarchy it
 * was moved does not matter: the reader asks, where the id of the unified one does not tell.
 */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_move, struct cgroup *to, const char *path, struct task_struct *task)
{
	struct ring_counters *state;
	struct move_event *e;
	__u64 now;

	if (task->group_leader != task || !is_visible(task))
		return 0;
	state = get_state();
	if (!state)
		return 0;
	now = bpf_ktime_get_boot_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_MOVE);
		return 0;
	}
	if (!fill_header(&e->hdr, state, task, EVENT_MOVE, now)) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return 0;
	}
	e->hdr.ordinal = now;
	e->cgroup = cgroup_of(task);
	submit(state, e, now, false);
	return 0;
}

static __always_inline __u32 state_of(struct task_struct *task)
{
	struct task_struct___state *old = (void *)task;
	struct task_struct___underscore *now = (void *)task;
	__u32 state;

	if (bpf_core_field_exists(now->__state))
		state = now->__state;
	else
		state = old->state;
	return state | task->exit_state;
}

static __always_inline void fill_task(struct task_record *r, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct mm_struct *mm = task->mm;

	identify(&r->id, task);
	identify(&r->parent, task->real_parent);
	r->cgroup = cgroup_of(task);
	r->rss = rss_pages(mm, false);
	r->swap = rss_pages(mm, true);
	r->cpu_time = signal->sum_sched_runtime + task->se.sum_exec_runtime;
	r->uid = task->real_cred->uid.val;
	r->euid = task->real_cred->euid.val;
	r->suid = task->real_cred->suid.val;
	r->exec_id = task->self_exec_id;
	r->state = state_of(task);
	r->threads = signal->nr_threads;
	copy_comm(r->comm, task);
	fill_origin(&r->origin, task);
	r->flags = 0;
	if (task->flags & PF_KTHREAD)
		r->flags |= TASK_KTHREAD;
	if (BPF_CORE_READ_BITFIELD(signal, is_child_subreaper))
		r->flags |= TASK_SUBREAPER;
	if (BPF_CORE_READ_BITFIELD(signal, has_child_subreaper))
		r->flags |= TASK_HAS_SUBREAPER;
	if (namespace_of(task)->child_reaper->tgid == task->tgid)
		r->flags |= TASK_NS_INIT;
	if (signal->live.counter == 0)
		r->flags |= TASK_DEAD;
	if (task->flags & PF_FORKNOEXEC)
		r->flags |= TASK_NEVER_EXECED;
}

static __always_inline int tell_thread(struct bpf_iter__task *ctx, struct task_struct *task)
{
	struct thread_record thread = {.size = sizeof(thread)};

	thread.pid =
		reader_ns == 0 ? (__u32)task->tgid : nested_number(task->group_leader->thread_pid);
	thread.cpu_time = task->se.sum_exec_runtime;
	/* A leader that has exited has let go of the memory that its threads still share. */
	if (!task->group_leader->mm) {
		thread.rss = rss_pages(task->mm, false);
		thread.swap = rss_pages(task->mm, true);
	}
	bpf_seq_write(ctx->meta->seq, &thread, sizeof(thread));
	return 0;
}

SEC("iter/task")
int snapshot(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_record record = {.size = sizeof(record)};

	if (!task)
		return 0;
	if (task->group_leader != task)
		return tell_thread(ctx, task);
	fill_task(&record, task);
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

static __always_inline void fill_usage(struct usage_record *r, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct mm_struct *mm = task->mm;

	identify(&r->id, task);
	identify(&r->parent, task->real_parent);
	r->threads = signal->nr_threads;
	r->rss = rss_pages(mm, false);
	r->swap = rss_pages(mm, true);
	r->cpu_time = signal->sum_sched_runtime + task->se.sum_exec_runtime;
	r->uid = task->real_cred->uid.val;
	r->euid = task->real_cred->euid.val;
	r->suid = task->real_cred->suid.val;
	r->exec_id = task->self_exec_id;
	r->state = state_of(task);
	copy_comm(r->comm, task);
	if (task->flags & PF_KTHREAD)
		r->flags |= TASK_KTHREAD;
	if (signal->live.counter == 0)
		r->flags |= TASK_DEAD;
}

/*
 * As snapshot, without what is of no use to those who look again and again: that lies
 * all over the kernel's memory, and where it is not at hand most of the time goes there.
 */
SEC("iter/task")
int usage(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct usage_record record = {.size = sizeof(record)};

	if (!task)
		return 0;
	if (task->group_leader != task)
		return tell_thread(ctx, task);
	fill_usage(&record, task);
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
