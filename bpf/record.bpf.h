/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What both objects share: the maps, and how a record is reserved, filled and sent.
 *
 * Everything here reads through BTF pointers, which the verifier follows without a
 * helper, so that it loads under confidentiality lockdown; the one exception is
 * marked. A BTF load of a bad pointer reads as zero.
 */
#ifndef __RECORD_BPF_H__
#define __RECORD_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "event.h"

/* Overridden before the load; a power of two and a multiple of the page size. */
#define RING_BYTES (16 << 20)

/*
 * At most one wake-up per WAKE_NS for records that can wait: a wake-up costs ten
 * times what writing the record does.
 */
#define WAKE_NS 5000000ULL

/*
 * Ancestors that a walk visits. The verifier looks up the type of each step anew, at up
 * to 0.1 ms each, so this bound is paid for at every start; beyond it the adopter is asked
 * for afterwards.
 */
#define MAX_ANCESTORS 20

/* The kernel's limit on nested pid namespaces (MAX_PID_NS_LEVEL). */
#define MAX_NS_DEPTH 32

struct ring_counters {
	__u64 refused;		       /* records without room, of all kinds */
	__u64 refused_of[EVENT_KINDS]; /* the same by kind */
	/*
	 * Before this instant (CLOCK_BOOTTIME, ns) the reader looks without being
	 * woken. The reader writes it too: 0 before it sleeps for long.
	 */
	__u64 looks_by;
	__u64 suppressed; /* records of EVENT_CAUGHT beyond their targets' limit */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, 1 << 10 /* BPF_F_MMAPABLE */);
	__type(key, __u32);
	__type(value, struct ring_counters);
} ring_state SEC(".maps");

/* The inode of the reader's pid namespace; 0 says that it is the initial one. */
const volatile __u32 reader_ns = 0;
/* Whether probe reads are allowed; where they are not, dead branches do not hurt. */
const volatile bool probe_reads = true;
/* log2 of the page size. */
const volatile __u32 page_shift = 12;

static __always_inline struct ring_counters *get_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ring_state, &zero);
}

static __always_inline void count_refused(struct ring_counters *state, __u32 kind)
{
	__sync_fetch_and_add(&state->refused, 1);
	if (kind < EVENT_KINDS)
		__sync_fetch_and_add(&state->refused_of[kind], 1);
}

/* Wakes the reader at once for what is urgent, else when it would not look by itself soon. */
static __always_inline void submit(struct ring_counters *state, void *record, __u64 now,
				   bool urgent)
{
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (urgent || now > state->looks_by) {
		state->looks_by = now + WAKE_NS;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(record, flags);
}

/*
 * The number of pid in the reader's namespace, 0 outside it. Below the initial
 * namespace it lies in an array that direct reads cannot index: there, and only
 * there, probe reads serve. In a function of its own for the verifier's sake.
 */
static __noinline __u32 nested_number(struct pid *pid)
{
	__u32 level = pid->level;
	struct upid upid;

	for (__u32 i = 1; i < MAX_NS_DEPTH; i++) {
		if (i > level)
			break;
		if (bpf_probe_read_kernel(&upid, sizeof(upid),
					  (void *)&pid->numbers[0] + i * sizeof(upid)))
			break;
		if (BPF_CORE_READ(upid.ns, ns.inum) == reader_ns)
			return upid.nr;
	}
	return 0;
}

/* As nested_number does, from a pointer that only probe reads can follow. */
static __noinline __u32 nested_raw(struct pid *pid)
{
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid upid;

	for (__u32 i = 1; i < MAX_NS_DEPTH; i++) {
		if (i > level)
			break;
		if (bpf_probe_read_kernel(&upid, sizeof(upid),
					  (void *)pid + bpf_core_field_offset(struct pid, numbers) +
						  i * sizeof(upid)))
			break;
		if (BPF_CORE_READ(upid.ns, ns.inum) == reader_ns)
			return upid.nr;
	}
	return 0;
}

static __always_inline __u32 number_of(struct pid *pid)
{
	return reader_ns == 0 ? (__u32)pid->numbers[0].nr : nested_number(pid);
}

/*
 * Whether the reader can see the process of task. Asked before a record is reserved, so
 * that strangers neither take room in the ring nor count as refused.
 */
static __always_inline bool is_visible(struct task_struct *task)
{
	return reader_ns == 0 || nested_number(task->group_leader->thread_pid) != 0;
}

/* Identifies the process of task; zero where the reader cannot see it. */
static __always_inline void identify(struct process_id *id, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	id->host_pid = task->tgid;
	id->pid = reader_ns == 0 ? (__u32)task->tgid : nested_number(leader->thread_pid);
	id->start = id->pid ? leader->start_boottime : 0;
}

/* The process's name: that of its leader, also when one of its threads speaks. */
static __always_inline void copy_comm(__u8 *to, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

#pragma unroll
	for (int i = 0; i < COMM_LEN; i++)
		to[i] = leader->comm[i];
}

/* Returns false where the subject is outside the reader's namespace. */
static __always_inline bool fill_header(struct event_header *hdr, struct ring_counters *state,
					struct task_struct *task, __u8 kind, __u64 now)
{
	identify(&hdr->id, task);
	if (!hdr->id.pid)
		return false;
	hdr->time = now;
	hdr->refused = state->refused;
	hdr->ordinal = 0;
	hdr->uid = task->real_cred->uid.val;
	hdr->exec_id = task->self_exec_id;
	hdr->kind = kind;
	__builtin_memset(hdr->pad, 0, sizeof(hdr->pad));
	copy_comm(hdr->comm, task);
	return true;
}

static __always_inline void fill_file(struct file_id *id, struct file *file)
{
	struct inode *inode = file->f_inode;

	id->ino = inode->i_ino;
	id->dev = inode->i_sb->s_dev;
	id->rdev = inode->i_rdev;
	id->mode = inode->i_mode;
	id->pad = 0;
}

struct fdtable___fd {
	struct file **fd;
} __attribute__((preserve_access_index));

/* As fill_file does for descriptors 0 to 2, from a table that only probe reads can index. */
static __always_inline void read_stdio(struct origin *origin, struct fdtable___fd *table)
{
	struct file **fds = BPF_CORE_READ(table, fd);
	struct file *files[3] = {};

	bpf_probe_read_kernel(files, sizeof(files), fds);
#pragma unroll
	for (int i = 0; i < 3; i++) {
		struct file_id *id = &origin->stdio[i];
		/* Once: each further step of a chain is a call. */
		struct inode *inode = BPF_CORE_READ(files[i], f_inode);

		id->ino = BPF_CORE_READ(inode, i_ino);
		id->dev = BPF_CORE_READ(inode, i_sb, s_dev);
		id->rdev = BPF_CORE_READ(inode, i_rdev);
		id->mode = BPF_CORE_READ(inode, i_mode);
		id->pad = 0;
	}
}

/*
 * What tells a detached process: session, SIGHUP, terminal, stdio. A descriptor table
 * that was once larger than the one built into its owner lies behind a pointer to
 * pointers, which direct reads cannot follow.
 */
static __always_inline void fill_origin(struct origin *origin, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct files_struct *files = task->files;
	struct pid *session = signal->pids[PIDTYPE_SID];

	origin->flags = 0;
	origin->session = number_of(session);
	if (session == task->group_leader->thread_pid)
		origin->flags |= ORIGIN_SESSION_OWN;
	if ((__u64)task->sighand->action[0].sa.sa_handler == 1 /* SIG_IGN of SIGHUP */)
		origin->flags |= ORIGIN_HUP_IGNORED;
	if (signal->tty)
		origin->flags |= ORIGIN_TTY;
	if (!files || files->fdt->max_fds <= sizeof(long) * 8) {
		if (files)
			origin->flags |= ORIGIN_STDIO_KNOWN;
		fill_file(&origin->stdio[0], files->fd_array[0]);
		fill_file(&origin->stdio[1], files->fd_array[1]);
		fill_file(&origin->stdio[2], files->fd_array[2]);
	} else if (probe_reads) {
		origin->flags |= ORIGIN_STDIO_KNOWN;
		read_stdio(origin, (void *)files->fdt);
	} else {
		__builtin_memset(origin->stdio, 0, sizeof(origin->stdio));
	}
}

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

#endif
