// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel side of abot-trace: the programs' source, the
// objects compiled from it, which are committed so that a build needs Go alone,
// and the bindings that bpf2go generates. Package probe is its only importer.
package bpf

//go:generate go tool bpf2go -go-package bpf -target bpfel -cflags "-O2 -Wall -Werror -I.." -type event_header -type process_id -type origin -type file_id -type fork_event -type exec_event -type exit_event -type signal_event -type oom_event -type child_event -type move_event -type task_record -type usage_record -type thread_record -type ring_counters -type event_kind -type origin_flags -type exec_flags -type exit_flags -type signal_effect -type task_flags Core core.bpf.c
//go:generate go tool bpf2go -go-package bpf -target bpfel -no-global-types -cflags "-O2 -Wall -Werror -I.." Args args.bpf.c
