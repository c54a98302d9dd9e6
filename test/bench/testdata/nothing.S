/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends at once. Without a C library, whose start asks the processor for its caches: on a
 * virtual machine each of these questions is a trap, and together they take longer than
 * fork, exec and exit.
 */
	.globl	_start
_start:
#if defined(__x86_64__)
	mov	$60, %eax
	xor	%edi, %edi
	syscall
#elif defined(__aarch64__)
	mov	x8, #93
	mov	x0, #0
	svc	#0
#else
#error "exit(2) is not known for this machine"
#endif
