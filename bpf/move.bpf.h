/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Processes that are moved to another control group. */
#ifndef __MOVE_BPF_H__
#define __MOVE_BPF_H__

#include "record.bpf.h"

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

#endif
