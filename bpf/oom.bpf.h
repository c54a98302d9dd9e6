/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Victims of the OOM killer. */
#ifndef __OOM_BPF_H__
#define __OOM_BPF_H__

#include "memory.bpf.h"
#include "record.bpf.h"

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

#endif
