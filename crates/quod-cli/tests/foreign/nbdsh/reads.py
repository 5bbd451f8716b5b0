# Reads of 0..1M data, 1M..5M nothing (2M..3M zero clusters), 3 KiB at 5M, data in the last block of 16M + 512.
K, M = 1 << 10, 1 << 20
SIZE = 16 * M + 512
h = connect()
PLACES = [
    ("data", 64 * K, 0),
    ("nothing", 64 * K, 4 * M),
    ("zero clusters", 64 * K, 2 * M),
    ("data into nothing", 128 * K, M - 64 * K),
    ("nothing into data", 128 * K, 5 * M - 64 * K),
    ("a part of a cluster", 8 * K, 5 * M),
    ("one byte", 1, 5 * M + 3 * K - 1),
    ("no block", 700, 5 * M + 3 * K - 77),
    ("the last block", 512, 16 * M),
    ("the last byte", 1, SIZE - 1),
    ("many clusters", 5 * M + 1, 3 * M + 5),
]
for name, length, offset in PLACES:
    line("pread " + name, lambda: runs(h.pread(length, offset)))
for name, length, offset in PLACES:
    line("structured " + name, lambda: chunks(h, length, offset))
    line("structured DF " + name, lambda: chunks(h, length, offset, nbd.CMD_FLAG_DF))
line("pread all", lambda: len(h.pread(SIZE, 0)))
line("structured all", lambda: chunks(h, SIZE, 0).split("|")[0])
line("structured DF all", lambda: chunks(h, SIZE, 0, nbd.CMD_FLAG_DF).split("|")[0])
alone("pread over the end", lambda h: runs(h.pread(513, 16 * M)))
alone("pread at the end", lambda h: runs(h.pread(1, SIZE)))
alone("pread past the end", lambda h: runs(h.pread(512, 20 * M)))
alone("pread far past the end", lambda h: runs(h.pread(512, (1 << 63) - 512)))
alone("pread at the last offset", lambda h: runs(h.pread(512, (1 << 64) - 512)))
alone("pread of nothing", lambda h: runs(h.pread(0, 0)))
alone("pread of nothing at the end", lambda h: runs(h.pread(0, SIZE)))
alone("pread of nothing past the end", lambda h: runs(h.pread(0, SIZE + 1)))
alone("structured over the end", lambda h: chunks(h, 513, 16 * M))
alone("structured DF over the end", lambda h: chunks(h, 513, 16 * M, nbd.CMD_FLAG_DF))
simple = connect(lambda h: h.set_request_structured_replies(False))
line("simple replies", lambda: runs(simple.pread(128 * K, M - 64 * K)))
line("simple replies, DF", lambda: runs(simple.pread_structured(512, 0, lambda *a: 0, nbd.CMD_FLAG_DF)))
