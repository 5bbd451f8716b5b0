# Write zeroes and trim: what is read afterwards, and what the contexts say.
K, M = 1 << 10, 1 << 20
SIZE = 16 * M + 512
FUA, NO_HOLE, FAST = nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO
h = connect()


def told(name, length, offset):
    line("pread after " + name, lambda: runs(h.pread(min(length + 1024, SIZE - offset + 512), offset - 512)))
    line(name, lambda: status(h, length, offset))


def zeroed(name, length, offset, flags=0):
    line("zero " + name, lambda: h.zero(length, offset, flags))
    told(name, length, offset)
    if flags & FAST:
        # Whoever refused has the disk of who did not.
        h.pwrite(bytes(length), offset)


h.pwrite(b"\x0b" * 3 * M, 9 * M)
zeroed("of a data cluster", 64 * K, 64 * K)
zeroed("of a part of one", 3 * K, 256 * K + 512)
zeroed("of no block", 777, 300 * K + 77)
zeroed("of nothing allocated", 128 * K, 4 * M)
zeroed("of zero clusters", 128 * K, 2 * M)
zeroed("over an edge", 64 * K, 9 * M - 32 * K)
zeroed("FUA", 64 * K, 9 * M + 64 * K, FUA)
zeroed("NO_HOLE", 64 * K, 9 * M + 192 * K, NO_HOLE)
zeroed("NO_HOLE of nothing allocated", 64 * K, 6 * M, NO_HOLE)
zeroed("NO_HOLE of a part", 1 * K, 6 * M + 128 * K, NO_HOLE)
zeroed("FAST_ZERO", 64 * K, 9 * M + 320 * K, FAST)
zeroed("FAST_ZERO of a part", 1 * K, 9 * M + 448 * K + 512, FAST)
zeroed("FAST_ZERO of nothing allocated", 64 * K, 7 * M, FAST)
zeroed("FAST_ZERO NO_HOLE", 64 * K, 9 * M + 512 * K, FAST | NO_HOLE)
zeroed("all flags", 64 * K, 9 * M + 640 * K, FAST | NO_HOLE | FUA)
zeroed("of much", 2 * M, 10 * M)
zeroed("of the end", 512, 16 * M)
for name, flags in [("trim", 0), ("trim FUA", FUA)]:
    for where, length, offset in [("a data cluster", 64 * K, 8 * M + 64 * K), ("a part", 1 * K, 5 * M + 512),
                                  ("nothing allocated", 64 * K, 4 * M), ("zero clusters", 64 * K, 2 * M),
                                  ("no block", 333, 5 * M + 2 * K)]:
        line("%s %s" % (name, where), lambda: h.trim(length, offset, flags))
        told("%s %s" % (name, where), length, offset)
        # What a trim leaves is the server's choice: the disks are compared afterwards, so it is filled.
        h.pwrite(b"\x0c" * length, offset)
alone("zero over the end", lambda h: h.zero(513, 16 * M))
alone("zero past the end", lambda h: h.zero(512, 20 * M))
alone("zero of nothing", lambda h: h.zero(0, 0))
alone("zero of nothing past the end", lambda h: h.zero(0, SIZE + 1))
alone("zero at the last offset", lambda h: h.zero(512, (1 << 64) - 512))
alone("zero of 4 GiB", lambda h: h.zero((1 << 32) - 512, 0))
alone("trim over the end", lambda h: h.trim(513, 16 * M))
alone("trim past the end", lambda h: h.trim(512, 20 * M))
alone("trim of nothing", lambda h: h.trim(0, 0))
alone("trim of nothing past the end", lambda h: h.trim(0, SIZE + 1))
alone("trim of 4 GiB", lambda h: h.trim((1 << 32) - 512, 0))
line("flush", lambda: h.flush())
