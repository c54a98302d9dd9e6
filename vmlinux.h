/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The kernel's types, cut down to the fields that the programs in bpf/ touch.
 * Kept by hand: CO-RE relocates every access to the running kernel by name, so
 * order and offsets here mean nothing, and the header serves every architecture.
 * Field names are those of Linux 5.10 to 7.x; where they differ between releases
 * a flavour (a suffix after three underscores) describes each.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false, true };

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};

/* include/linux/sched.h and signal.h */
enum {
	PF_FORKNOEXEC = 0x00000040,
	PF_KTHREAD = 0x00200000,
	SIGNAL_GROUP_EXIT = 0x00000004,
	TRACE_SIGNAL_DELIVERED = 0,
	TRACE_SIGNAL_IGNORED = 1,
};

/* include/linux/pid.h: enum pid_type. */
enum {
	PIDTYPE_SID = 3,
	PIDTYPE_MAX = 4,
};

/* include/linux/mm_types_task.h */
enum {
	MM_FILEPAGES,
	MM_ANONPAGES,
	MM_SWAPENTS,
	MM_SHMEMPAGES,
	NR_MM_COUNTERS,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	long long counter;
} atomic64_t;

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct list_head {
	struct list_head *next, *prev;
};

struct ns_common {
	__u32 inum;
};

struct task_struct;

struct pid_namespace {
	struct task_struct *child_reaper;
	unsigned int level;
	struct pid_namespace *parent;
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct nsproxy {
	struct pid_namespace *pid_ns_for_children;
};

struct cred {
	kuid_t uid;
	kuid_t suid;
	kuid_t euid;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct super_block {
	__u32 s_dev;
};

struct inode {
	__u16 i_mode;
	__u32 i_rdev;
	struct super_block *i_sb;
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
};

struct fdtable {
	unsigned int max_fds;
};

struct files_struct {
	struct fdtable *fdt;
	struct file *fd_array[64];
};

struct sigaction {
	void *sa_handler;
};

struct k_sigaction {
	struct sigaction sa;
};

struct sighand_struct {
	struct k_sigaction action[64];
};

struct kernel_siginfo {
	int si_code;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct percpu_counter {
	__s64 count;
};

struct mm_struct {
	unsigned long arg_start, arg_end;
	unsigned long env_start, env_end;
};

/* Up to 6.1. */
struct mm_rss_stat___array {
	struct {
		long counter;
	} count[NR_MM_COUNTERS];
};

struct mm_struct___array {
	struct mm_rss_stat___array rss_stat;
};

/* From 6.2 (f1a7941243c1): the sum over the CPUs may lag by a batch for each. */
struct mm_struct___percpu {
	struct percpu_counter rss_stat[NR_MM_COUNTERS];
};

struct tty_struct;

struct signal_struct {
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	unsigned int is_child_subreaper : 1;
	unsigned int has_child_subreaper : 1;
	struct pid *pids[PIDTYPE_MAX];
	struct tty_struct *tty;
	unsigned long long sum_sched_runtime;
	unsigned long maxrss;
	struct mm_struct *oom_mm;
};

struct task_struct {
	unsigned int flags;
	struct sched_entity se;
	struct mm_struct *mm;
	int exit_state;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct list_head children;
	struct list_head sibling;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_boottime;
	const struct cred *real_cred;
	char comm[16];
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct sighand_struct *sighand;
	sigset_t blocked;
	sigset_t real_blocked;
	__u32 self_exec_id;
	struct css_set *cgroups;
};

/* Up to 5.13 the state is called state, from 5.14 (2f064a59a11f) __state. */
struct task_struct___state {
	long state;
};

struct task_struct___underscore {
	unsigned int __state;
};

struct linux_binprm {
	const char *filename;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
