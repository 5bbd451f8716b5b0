# Writes and flushes, each read again.
K, M = 1 << 10, 1 << 20
SIZE = 16 * M + 512
FUA = nbd.CMD_FLAG_FUA
h = connect()


def wrote(name, value, length, offset, flags=0):
    line("pwrite " + name, lambda: h.pwrite(bytes([value]) * length, offset, flags))
    line("pread " + name, lambda: runs(h.pread(length + 1024, offset - 512)))


wrote("over data", 11, 64 * K, 64 * K)
wrote("into nothing", 12, 64 * K, 4 * M)
wrote("into zero clusters", 13, 3 * K, 2 * M + 64 * K + 512)
wrote("of no block", 14, 777, 3 * M + 333)
wrote("of one byte", 15, 1, 6 * M + 1)
wrote("over an edge of clusters", 16, 128 * K, 7 * M - 64 * K - 100)
wrote("FUA over data", 17, 4 * K, 256 * K, FUA)
wrote("FUA into nothing", 18, 4 * K, 9 * M, FUA)
wrote("FUA of one byte", 19, 1, 10 * M + 7, FUA)
wrote("of zeroes", 0, 64 * K, 512 * K)
wrote("of much", 20, 3 * M, 11 * M + 512)
line("pwrite the last byte", lambda: h.pwrite(b"\x15", SIZE - 1))
line("pread the last block", lambda: runs(h.pread(512, 16 * M)))
line("flush", lambda: h.flush())
line("flush again", lambda: h.flush())
alone("pwrite over the end", lambda h: h.pwrite(bytes(513), 16 * M))
alone("pwrite at the end", lambda h: h.pwrite(bytes(1), SIZE))
alone("pwrite past the end", lambda h: h.pwrite(bytes(512), 20 * M))
alone("pwrite far past the end", lambda h: h.pwrite(bytes(512), (1 << 63) - 512))
alone("pwrite at the last offset", lambda h: h.pwrite(bytes(512), (1 << 64) - 512))
alone("pwrite of nothing", lambda h: h.pwrite(b"", 0))
alone("pwrite of nothing past the end", lambda h: h.pwrite(b"", SIZE + 1))
# What one connection has been told is flushed, another one sees, and flushes for it.
one, other = connect(), connect()
line("pwrite by one", lambda: one.pwrite(b"\x16" * 512, M))
line("flush by another", lambda: other.flush())
line("pread by another", lambda: runs(other.pread(512, M)))
