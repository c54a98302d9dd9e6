/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The iterators: every process as the kernel has it now. */
#ifndef __TASKS_BPF_H__
#define __TASKS_BPF_H__

#include "memory.bpf.h"
#include "namespace.bpf.h"
#include "record.bpf.h"

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

#endif
