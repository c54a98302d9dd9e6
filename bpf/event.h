/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The records that the programs send, shared with Go: cmd/bpf2go generates the Go
 * types from these. Fixed-width, largest first, padding named, every byte written.
 * Their layout names itself: recordLayout in internal/probe/store.go.
 */
#ifndef __EVENT_H__
#define __EVENT_H__

enum event_kind {
	EVENT_FORK = 1,
	EVENT_EXEC,
	EVENT_EXIT,
	EVENT_SIGNAL,
	EVENT_OOM,
	EVENT_CHILD,
	EVENT_MOVE,
	EVENT_CAUGHT,
	EVENT_KINDS,
};

#define COMM_LEN 16

/* A process: number in the reader's pid namespace, and the leader's start_boottime. */
struct process_id {
	__u64 start;
	__u32 pid;
	__u32 host_pid;
};

struct event_header {
	__u64 time;    /* CLOCK_BOOTTIME, ns */
	__u64 refused; /* records that found no room, ever, before this one */
	struct process_id id;
	__u32 ordinal; /* of this kind within the process */
	__u32 uid;
	/* Which of its programs it runs: self_exec_id, which grows with each exec and is handed
	 * down by fork. 0 where not known. */
	__u32 exec_id;
	__u8 kind;
	__u8 pad[3];
	__u8 comm[COMM_LEN];
};

struct file_id {
	__u64 ino;
	__u32 dev; /* the kernel's encoding: major << 20 | minor */
	__u32 rdev;
	__u32 mode;
	__u32 pad;
};

enum origin_flags {
	ORIGIN_SESSION_OWN = 1,
	ORIGIN_HUP_IGNORED = 2,
	ORIGIN_TTY = 4,
	ORIGIN_STDIO_KNOWN = 8,
	ORIGIN_NS_INIT = 16, /* fork only: the first of a new pid namespace */
	ORIGIN_MOVED = 32,   /* fork only: in other control groups than its caller */
};

/* The state in which a process may be detached: see struct Origin in event.go. */
struct origin {
	struct file_id stdio[3];
	__s32 session;
	__u32 flags;
};

struct fork_event {
	struct event_header hdr;
	struct process_id spawner;
	struct process_id caller;
	__u64 cgroup;
	struct origin origin;
};

enum exec_flags {
	EXEC_TRUNCATED = 1,
	EXEC_MARKS_KNOWN = 2,
	EXEC_MARK_KEEP = 4,
	EXEC_MARK_LEASH = 8,
};

/*
 * Followed by filename_len bytes of path and, at args_offset from the end of this
 * struct, args_len bytes of arguments, each ended by a NUL.
 */
struct exec_event {
	struct event_header hdr;
	struct origin origin; /* as the new program begins with it */
	__u64 cgroup;
	__u32 flags;
	__u16 filename_len;
	__u16 args_offset;
	__u16 args_len;
	__u16 pad[3];
};

enum exit_flags {
	EXIT_HAS_CHILDREN = 1,
	EXIT_OOM = 2,
	EXIT_ADOPTER_INIT = 4,
	EXIT_ADOPTER_SUBREAPER = 8,
	EXIT_NS_ENDS = 16,
	EXIT_NEVER_EXECED = 32, /* since its own fork */
};

struct exit_event {
	struct event_header hdr;
	struct process_id adopter;
	__u64 peak_rss; /* bytes */
	__u64 cpu_time; /* ns */
	__u32 status;	/* as from wait(2) */
	__u32 flags;
	__u32 euid; /* effective user id; the real one is in the header */
	__u32 suid; /* saved user id */
};

/* What a signal does to its target. */
enum signal_effect {
	SIGNAL_FATAL = 1,
	SIGNAL_CAUGHT,
	SIGNAL_BLOCKED, /* and fatal, should it be unblocked as things are */
	SIGNAL_IGNORED,
};

/* Sent as EVENT_SIGNAL where it is fatal, else as EVENT_CAUGHT. */
struct signal_event {
	struct event_header hdr;
	struct process_id sender;
	__u32 sender_uid;
	__u32 signal;
	__u32 from_kernel;
	__u32 effect;
	__u32 suppressed; /* records of EVENT_CAUGHT about the target not sent before this one */
	__u32 pad;
	__u8 sender_comm[COMM_LEN];
};

struct oom_event {
	struct event_header hdr;
	__u64 cgroup;
	__u64 rss; /* bytes */
};

struct child_event {
	struct event_header hdr;
	struct process_id parent;
	struct origin origin;
};

struct move_event {
	struct event_header hdr;
	__u64 cgroup;
};

enum task_flags {
	TASK_KTHREAD = 1,
	TASK_SUBREAPER = 2,
	TASK_HAS_SUBREAPER = 4,
	TASK_NS_INIT = 8,
	TASK_DEAD = 16,
	TASK_NEVER_EXECED = 32, /* since its own fork */
};

/* One line of the task iterator: a process. The size tells the kinds of lines apart. */
struct task_record {
	__u32 size;
	__u32 exec_id; /* as in struct event_header */
	struct process_id id;
	struct process_id parent;
	__u64 cgroup;
	__u64 rss;	/* pages */
	__u64 swap;	/* pages */
	__u64 cpu_time; /* ns, of the leader and the dead threads */
	__u32 uid;	/* real, effective and saved user ids */
	__u32 euid;
	__u32 suid;
	__u32 flags;
	__u32 state;
	__u32 threads;
	__u8 comm[COMM_LEN];
	struct origin origin;
};

/* One line of the usage iterator: a process, with what changes while it runs. */
struct usage_record {
	__u32 size;
	__u32 threads;
	struct process_id id;
	struct process_id parent;
	__u64 rss;	/* pages */
	__u64 swap;	/* pages */
	__u64 cpu_time; /* ns, of the leader and the dead threads */
	__u32 uid;	/* real, effective and saved user ids */
	__u32 euid;
	__u32 suid;
	__u32 exec_id; /* as in struct event_header */
	__u32 flags;   /* of task_flags only TASK_KTHREAD and TASK_DEAD */
	__u32 state;
	__u8 comm[COMM_LEN];
};

/* One line of either iterator: a thread other than the leader. */
struct thread_record {
	__u32 size;
	__u32 pid; /* the process's, in the reader's namespace */
	__u64 cpu_time;
	__u64 rss; /* pages, where the leader is gone and cannot tell */
	__u64 swap;
};

_Static_assert(sizeof(struct process_id) == 16, "process_id");
_Static_assert(sizeof(struct event_header) == 64, "event_header");
_Static_assert(sizeof(struct origin) == 80, "origin");
_Static_assert(sizeof(struct fork_event) == 184, "fork_event");
_Static_assert(sizeof(struct exec_event) == 168, "exec_event");
_Static_assert(sizeof(struct exit_event) == 112, "exit_event");
_Static_assert(sizeof(struct signal_event) == 120, "signal_event");
_Static_assert(sizeof(struct oom_event) == 80, "oom_event");
_Static_assert(sizeof(struct child_event) == 160, "child_event");
_Static_assert(sizeof(struct move_event) == 72, "move_event");
_Static_assert(sizeof(struct task_record) == 192, "task_record");
_Static_assert(sizeof(struct usage_record) == 104, "usage_record");
_Static_assert(sizeof(struct thread_record) == 32, "thread_record");

#endif
