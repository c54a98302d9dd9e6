/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* How much memory a process holds, over the layouts that kernels have had. */
#ifndef __MEMORY_BPF_H__
#define __MEMORY_BPF_H__

#include "record.bpf.h"

/*
 * Up to 6.1 the counters are an array of a typedef, into which the verifier follows no
 * direct read; without probe reads the figures stay 0 there.
 */
static __always_inline __s64 rss_pages_array(struct mm_struct___array *mm, bool swap)
{
	long count[NR_MM_COUNTERS] = {};

	if (probe_reads)
		BPF_CORE_READ_INTO(&count, mm, rss_stat.count);
	return swap ? count[MM_SWAPENTS]
		    : count[MM_FILEPAGES] + count[MM_ANONPAGES] + count[MM_SHMEMPAGES];
}

static __always_inline __u64 rss_pages(struct mm_struct *mm, bool swap)
{
	struct mm_struct___array *array = (void *)mm;
	struct mm_struct___percpu *percpu = (void *)mm;
	__s64 sum;

	if (!mm)
		return 0;
	if (bpf_core_field_exists(array->rss_stat.count))
		sum = rss_pages_array(array, swap);
	else
		sum = swap ? percpu->rss_stat[MM_SWAPENTS].count
			   : percpu->rss_stat[MM_FILEPAGES].count +
				      percpu->rss_stat[MM_ANONPAGES].count +
				      percpu->rss_stat[MM_SHMEMPAGES].count;
	return sum < 0 ? 0 : sum;
}

#endif
