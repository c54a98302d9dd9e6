/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Processes that are made, and that replace their program. */
#ifndef __FORK_BPF_H__
#define __FORK_BPF_H__

#include "namespace.bpf.h"
#include "record.bpf.h"

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

#endif
