# SPDX-License-Identifier: Apache-2.0
"""Says where its arguments and its environment are: far too much, and nowhere. Then it waits.

prctl(2), PR_SET_MM_MAP takes no capability (kernel/sys.c, prctl_set_mm_map).
"""
import ctypes
import os
import sys
import time

PR_SET_MM, PR_SET_MM_MAP = 35, 14
libc = ctypes.CDLL(None, use_errno=True)


class Map(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
        "arg_start", "arg_end", "env_start", "env_end", "auxv")] + [("auxv_size", ctypes.c_uint32), ("exe_fd", ctypes.c_int32)]


stat = open("/proc/self/stat").read().rpartition(") ")[2].split()
field = lambda n: int(stat[n - 3])  # numbered as in proc(5)
brk = int(ctypes.CDLL(None).sbrk(0)) & 0xFFFFFFFFFFFFFFFF
libc.sbrk.restype = ctypes.c_void_p
brk = libc.sbrk(0)
m = Map(field(26), field(27), field(45), field(46), field(47), brk, field(28),
        0x10000, 0x7F0000000000, 0x10000, 0x7F0000000000, 0, 0, -1)
if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.byref(m), ctypes.sizeof(m), 0) != 0:
    print("refused", os.strerror(ctypes.get_errno()), file=sys.stderr)
    sys.exit(1)
os.write(int(sys.argv[1]), b"child %d\n" % os.getpid())
time.sleep(300)
