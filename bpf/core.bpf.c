//go:build ignore

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The core object: fork, exec, exit, signals, OOM, and the task iterator.
 * BTF reads only (see record.bpf.h), so it loads wherever tp_btf does, also under
 * confidentiality lockdown. Thread-only events end here. One file for each kind of program.
 */
#include "exit.bpf.h"
#include "fork.bpf.h"
#include "move.bpf.h"
#include "oom.bpf.h"
#include "record.bpf.h"
#include "signal.bpf.h"
#include "tasks.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Keeps the types in BTF for the generator. */
const struct event_header *unused_event_header __attribute__((unused));
const struct fork_event *unused_fork_event __attribute__((unused));
const struct exec_event *unused_exec_event __attribute__((unused));
const struct exit_event *unused_exit_event __attribute__((unused));
const struct signal_event *unused_signal_event __attribute__((unused));
const struct oom_event *unused_oom_event __attribute__((unused));
const struct child_event *unused_child_event __attribute__((unused));
const struct move_event *unused_move_event __attribute__((unused));
const struct task_record *unused_task_record __attribute__((unused));
const struct usage_record *unused_usage_record __attribute__((unused));
const struct thread_record *unused_thread_record __attribute__((unused));
const struct ring_counters *unused_ring_counters __attribute__((unused));
const enum event_kind *unused_event_kind __attribute__((unused));
const enum origin_flags *unused_origin_flags __attribute__((unused));
const enum exec_flags *unused_exec_flags __attribute__((unused));
const enum exit_flags *unused_exit_flags __attribute__((unused));
const enum signal_effect *unused_signal_effect __attribute__((unused));
const enum task_flags *unused_task_flags __attribute__((unused));
