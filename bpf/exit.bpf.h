/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Processes that end: with how, and to whom the kernel will give their children. */
#ifndef __EXIT_BPF_H__
#define __EXIT_BPF_H__

#include "namespace.bpf.h"
#include "record.bpf.h"

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
	/* Every other thread has it set: copy_process sets it, and only the one that executes
	 * clears it. */
	if (task->group_leader->flags & PF_FORKNOEXEC)
		e->flags |= EXIT_NEVER_EXECED;
	if (may_have_children(task))
		e->flags |= EXIT_HAS_CHILDREN;
	if (e->flags & EXIT_HAS_CHILDREN)
		find_adopter(e, task);
	submit(state, e, now, e->flags & EXIT_HAS_CHILDREN);
	return 0;
}

#endif
