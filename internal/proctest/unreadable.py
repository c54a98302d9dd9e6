# SPDX-License-Identifier: Apache-2.0
"""Is blocked in mmap of a file on a file system of its own, which never answers, and holds its
memory map lock: who reads its environment or its arguments, from outside, waits for ever.
Says "server PID" and "ready PID" right before. It needs root for the mount, which is its own namespace's, and ends
with the server, its child, after a minute at most: nobody on the machine can list it meanwhile. An
argument is the id of the user that it becomes first."""
import ctypes
import os
import signal
import struct
import sys
import tempfile

FUSE_GETATTR, FUSE_OPEN, FUSE_READ, FUSE_INIT = 3, 14, 15, 26
FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE = 1, 2
MS_REC, MS_PRIVATE, CLONE_NEWNS = 0x4000, 1 << 18, 0x20000
PAGE = os.sysconf("SC_PAGE_SIZE")
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
SIZE = 4 << 20


def must(result, what):
    if result:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def serve(dev, reading):
    """Answers all but reads. The root of the file system is the one file."""
    signal.alarm(60)
    opened = 0
    while True:
        request = os.read(dev, 1 << 18)
        _, opcode, unique, _, _, _, _, _ = struct.unpack_from("IIQQIIII", request)
        error, body = 0, b""
        if opcode == FUSE_INIT:
            body = struct.pack("IIIIHHIIHHI28x", 7, 31, 0, 0, 1, 1, 1 << 16, 1, 1, 0, 0)
        elif opcode == FUSE_GETATTR:
            body = struct.pack("QII6Q10I", 3600, 0, 0, 1, SIZE, 0, 0, 0, 0, 0, 0, 0, 0o100644, 1, 0, 0, 0, PAGE, 0)
        elif opcode == FUSE_OPEN:
            opened += 1
            body = struct.pack("QII", 1, 0 if opened == 1 else FOPEN_DIRECT_IO | FOPEN_KEEP_CACHE, 0)
        elif opcode == FUSE_READ:
            os.write(reading, b"x")  # the page is locked from now on
            continue
        else:
            error = -38  # ENOSYS
        os.write(dev, struct.pack("IiQ", 16 + len(body), error, unique) + body)


must(libc.unshare(CLONE_NEWNS), "unshare")
must(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")
place = tempfile.NamedTemporaryFile()
dev = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={dev},rootmode=100000,user_id=0,group_id=0,allow_other".encode()
must(libc.mount(b"unreadable", place.name.encode(), b"fuse", 0, options), "mount")
read, reading = os.pipe()
server = os.fork()
if server == 0:
    serve(dev, reading)
os.close(dev)
if os.fork() == 0:
    os.read(os.open(place.name, os.O_RDONLY), PAGE)
    os._exit(0)
os.read(read, 1)
file = os.open(place.name, os.O_RDONLY)
if len(sys.argv) > 1:
    os.setresuid(*[int(sys.argv[1])] * 3)
os.write(1, f"server {server}\nready {os.getpid()}\n".encode())
libc.mmap(None, PAGE, 1, 2, file, 0)  # waits for the locked page, which nobody can end
