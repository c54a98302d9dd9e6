/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* In which pid namespace a process lives. */
#ifndef __NAMESPACE_BPF_H__
#define __NAMESPACE_BPF_H__

#include "record.bpf.h"

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

#endif
