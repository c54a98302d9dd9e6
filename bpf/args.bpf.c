//go:build ignore

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The optional object: file names and arguments at exec, and the children of a dying
 * process as the kernel's own list has them. It needs probe reads, which
 * confidentiality lockdown refuses; without it the core object's records serve.
 */
#include "record.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Children that one exit reports; the tracker's own index knows the others. */
#define MAX_CHILDREN 64

/*
 * Record sizes: a reservation must be constant, and most command lines are short.
 * Each has a room for the path and one for the arguments.
 */
#define SMALL_PATH  64
#define SMALL_ARGS  128
#define MEDIUM_PATH 256
#define MEDIUM_ARGS 768
#define LARGE_PATH  256
#define LARGE_ARGS  3840

/*
 * How much of an environment is searched for marks. Of a larger one they are not
 * known here, and the reader looks for itself.
 */
#define ENV_BYTES 8192
#define ENV_SLACK 32

struct environment {
	__u8 before[8]; /* stays zero: the end of the word before the first */
	__u8 bytes[ENV_BYTES + ENV_SLACK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct environment);
} environments SEC(".maps");

/* Four letters as a little-endian word. */
#define WORD(a, b, c, d)	     ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)
#define LONG(a, b, c, d, e, f, g, h) ((__u64)WORD(a, b, c, d) | (__u64)WORD(e, f, g, h) << 32)

/*
 * The marks' common prefix, ABOT_TRACE_, is eleven letters long, so wherever it stands
 * one of its first eight words of four letters lies at a multiple of eight: only
 * those places are looked at. Returns how far into the prefix the word is, or 8.
 */
static __always_inline __u32 prefix_offset(__u32 word)
{
	switch (word) {
	case WORD('A', 'B', 'O', 'T'):
		return 0;
	case WORD('B', 'O', 'T', '_'):
		return 1;
	case WORD('O', 'T', '_', 'T'):
		return 2;
	case WORD('T', '_', 'T', 'R'):
		return 3;
	case WORD('_', 'T', 'R', 'A'):
		return 4;
	case WORD('T', 'R', 'A', 'C'):
		return 5;
	case WORD('R', 'A', 'C', 'E'):
		return 6;
	case WORD('A', 'C', 'E', '_'):
		return 7;
	}
	return 8;
}

/*
 * Which mark has this word of its prefix at this place of the environment at hand, with
 * the NUL before the mark and the one after. A global function, so that the verifier
 * looks at it once and not at every call.
 */
__noinline int mark_near(__u64 place, __u32 word)
{
	struct environment *env;
	const __u64 *words;
	const __u8 *at;
	__u32 zero = 0;
	__u32 offset;
	__u64 index;

	offset = prefix_offset(word);
	if (offset > 7)
		return 0;
	env = bpf_map_lookup_elem(&environments, &zero);
	barrier_var(place);
	if (!env || place >= ENV_BYTES)
		return 0;
	/* From the byte before the mark on. */
	index = place + sizeof(env->before) - 1 - offset;
	barrier_var(index);
	if (index >= sizeof(env->before) + ENV_BYTES)
		return 0;
	at = (const __u8 *)env + index;
	words = (const void *)(at + 1);
	if (at[0] != 0 || words[0] != LONG('A', 'B', 'O', 'T', '_', 'T', 'R', 'A'))
		return 0;
	if (words[1] == LONG('C', 'E', '_', 'K', 'E', 'E', 'P', '=') && (words[2] & 0xffff) == '1')
		return EXEC_MARK_KEEP;
	if (words[1] == LONG('C', 'E', '_', 'L', 'E', 'A', 'S', 'H') &&
	    (words[2] & 0xffffff) == WORD('=', '1', 0, 0))
		return EXEC_MARK_LEASH;
	return 0;
}

/*
 * The first eight words of the prefix, each where its hash says. An environment is full of
 * words in upper case here and there: to tell them by a mask alone, and then by a switch,
 * has the processor guess wrong all the time.
 */
static const __u32 prefix_words[8] = {
	WORD('O', 'T', '_', 'T'), WORD('B', 'O', 'T', '_'), WORD('R', 'A', 'C', 'E'),
	WORD('T', '_', 'T', 'R'), WORD('_', 'T', 'R', 'A'), WORD('T', 'R', 'A', 'C'),
	WORD('A', 'B', 'O', 'T'), WORD('A', 'C', 'E', '_'),
};

#define PREFIX_HASH(word) ((__u32)((word)*1217u) >> 29)

#define LOOK(n)                                                                                    \
	do {                                                                                       \
		__u32 word = *(__u32 *)&env->bytes[i + (n)];                                       \
		if (word == prefix_words[PREFIX_HASH(word)] && i + (n) < len)                      \
			flags |= mark_near(i + (n), word);                                         \
	} while (0)

/*
 * Searches the environment of a new program for the marks. This is most of what an exec
 * costs, so several words are looked at in a turn; behind the end lies an older one.
 */
static __noinline __u32 find_marks(unsigned long start, unsigned long end)
{
	struct environment *env;
	__u64 len = end - start;
	__u32 zero = 0, flags = 0;

	env = bpf_map_lookup_elem(&environments, &zero);
	if (!env || len > ENV_BYTES)
		return 0;
	barrier_var(len);
	if (len > ENV_BYTES || bpf_probe_read_user(env->bytes, len, (void *)start))
		return 0;
	for (__u32 i = 0; i < ENV_BYTES; i += 32) {
		if (i >= len)
			break;
		LOOK(0);
		LOOK(8);
		LOOK(16);
		LOOK(24);
	}
	return flags | EXEC_MARKS_KNOWN;
}

/* Sends the record with rooms of the given sizes; false where the path wants a larger one. */
#define SEND_EXEC(PATH, ARGS, LAST)                                                                \
	({                                                                                         \
		struct {                                                                           \
			struct exec_event event;                                                   \
			char path[PATH];                                                           \
			char args[ARGS];                                                           \
		} *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);                                \
		bool sent = true;                                                                  \
		if (!r) {                                                                          \
			count_refused(state, EVENT_EXEC);                                          \
		} else if (!fill_header(&r->event.hdr, state, task, EVENT_EXEC, now)) {            \
			bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                                  \
		} else {                                                                           \
			long n = bpf_probe_read_kernel_str(r->path, PATH, bprm->filename);         \
			r->event.hdr.ordinal = task->self_exec_id;                                 \
			r->event.origin = origin;                                                  \
			r->event.cgroup = cgroup_of(task);                                         \
			r->event.flags = marks;                                                    \
			r->event.filename_len = n > 0 ? n - 1 : 0;                                 \
			r->event.args_offset = PATH;                                               \
			__builtin_memset(r->event.pad, 0, sizeof(r->event.pad));                   \
			if (n == PATH)                                                             \
				r->event.flags |= EXEC_TRUNCATED;                                  \
			if (n == PATH && !LAST) {                                                  \
				sent = false;                                                      \
				bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                          \
			} else {                                                                   \
				__u64 size = len;                                                  \
				barrier_var(size);                                                 \
				if (size > ARGS) {                                                 \
					size = ARGS;                                               \
					r->event.flags |= EXEC_TRUNCATED;                          \
				}                                                                  \
				if (bpf_probe_read_user(r->args, size, start))                     \
					size = 0;                                                  \
				r->event.args_len = size;                                          \
				submit(state, &r->event, now, false);                              \
			}                                                                          \
		}                                                                                  \
		sent;                                                                              \
	})

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec_args, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct ring_counters *state = get_state();
	void *start = (void *)task->mm->arg_start;
	__u64 len = task->mm->arg_end - task->mm->arg_start;
	__u64 now = bpf_ktime_get_boot_ns();
	struct origin origin;
	__u32 marks;

	if (!state || !is_visible(task))
		return 0;
	marks = find_marks(task->mm->env_start, task->mm->env_end);
	/* Before the search, the verifier of 6.1 would follow that once for each way through it. */
	fill_origin(&origin, task);
	if (len <= SMALL_ARGS && SEND_EXEC(SMALL_PATH, SMALL_ARGS, false))
		return 0;
	if (len <= MEDIUM_ARGS)
		SEND_EXEC(MEDIUM_PATH, MEDIUM_ARGS, true);
	else
		SEND_EXEC(LARGE_PATH, LARGE_ARGS, true);
	return 0;
}

/* As fill_origin does, from a pointer that only probe reads can follow. */
static __always_inline void read_origin(struct origin *origin, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct pid *session = BPF_CORE_READ(signal, pids[PIDTYPE_SID]);
	struct files_struct *files = BPF_CORE_READ(task, files);

	origin->flags = 0;
	origin->session =
		reader_ns == 0 ? (__u32)BPF_CORE_READ(session, numbers[0].nr) : nested_raw(session);
	if (session == BPF_CORE_READ(task, thread_pid))
		origin->flags |= ORIGIN_SESSION_OWN;
	if ((__u64)BPF_CORE_READ(task, sighand, action[0].sa.sa_handler) == 1 /* SIG_IGN */)
		origin->flags |= ORIGIN_HUP_IGNORED;
	if (BPF_CORE_READ(signal, tty))
		origin->flags |= ORIGIN_TTY;
	if (files)
		origin->flags |= ORIGIN_STDIO_KNOWN;
	read_stdio(origin, (void *)BPF_CORE_READ(files, fdt));
}

static __always_inline void send_child(struct ring_counters *state, struct task_struct *parent,
				       struct task_struct *child, __u64 now)
{
	struct child_event *e;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_refused(state, EVENT_CHILD);
		return;
	}
	__builtin_memset(&e->hdr, 0, sizeof(e->hdr));
	e->hdr.time = now;
	e->hdr.refused = state->refused;
	e->hdr.kind = EVENT_CHILD;
	e->hdr.id.host_pid = BPF_CORE_READ(child, tgid);
	e->hdr.id.pid =
		reader_ns == 0 ? e->hdr.id.host_pid : nested_raw(BPF_CORE_READ(child, thread_pid));
	e->hdr.id.start = BPF_CORE_READ(child, start_boottime);
	e->hdr.uid = BPF_CORE_READ(child, real_cred, uid.val);
	e->hdr.exec_id = BPF_CORE_READ(child, self_exec_id);
	bpf_probe_read_kernel(e->hdr.comm, sizeof(e->hdr.comm), &child->comm);
	identify(&e->parent, parent);
	read_origin(&e->origin, child);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* Attached before the core's exit program, whose record then wakes the reader for both. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit_children, struct task_struct *task)
{
	struct list_head *head = &task->children;
	struct list_head *at = task->children.next;
	struct ring_counters *state;
	__u64 now;

	if (task->signal->live.counter != 0 || at->next == at || !is_visible(task))
		return 0;
	state = get_state();
	if (!state)
		return 0;
	now = bpf_ktime_get_boot_ns();
	for (int i = 0; i < MAX_CHILDREN; i++) {
		struct task_struct *child;

		if ((__u64)at == (__u64)head)
			break;
		child = (void *)at - bpf_core_field_offset(struct task_struct, sibling);
		if (!BPF_CORE_READ(child, exit_state))
			send_child(state, task, child, now);
		at = BPF_CORE_READ(at, next);
	}
	return 0;
}
