# Block status over both contexts, and cache.
K, M = 1 << 10, 1 << 20
h = connect()
SIZE = h.get_size()
ONE = nbd.CMD_FLAG_REQ_ONE


def twice(name, length, offset):
    line(name, lambda: status(h, length, offset))
    line("REQ_ONE " + name, lambda: status(h, length, offset, ONE))


line("all", lambda: status(h, SIZE, 0).split(" | ")[0])
line("REQ_ONE all", lambda: status(h, SIZE, 0, ONE))
twice("from the middle of a cluster", 2 * M, 100 * K + 7)
twice("to the middle of a cluster", 100 * K + 7, 0)
twice("one byte", 1, 5 * M + 3 * K - 1)
twice("the first block", 512, 0)
twice("the last block", 512, SIZE - 512)
for at in range(0, SIZE, M):
    twice("MiB %d" % (at // M), min(M, SIZE - at), at)
walked = []
offset = 0
while offset < SIZE:
    found = []

    def extent(context, at, entries, error):
        if context == BASE:
            found.extend(zip(entries[::2], entries[1::2]))

    h.block_status(SIZE - offset, offset, extent, ONE)
    walked.append((found[0][1], found[0][0]))
    offset += found[0][0]
print("walked by REQ_ONE: %s" % merged(walked))
for name, contexts in [("base", [BASE]), ("depth", [DEPTH]), ("no context", [])]:
    one = nbd.NBD()
    one.set_strict_mode(0)
    for context in contexts:
        one.add_meta_context(context)
    one.connect_uri(uri)
    line(name, lambda: status(one, SIZE, 0))
    line("%s, then" % name, lambda: len(one.pread(512, 0)))
simple = connect(lambda h: h.set_request_structured_replies(False))
line("status with simple replies", lambda: status(simple, SIZE, 0))
line("status with simple replies, then", lambda: len(simple.pread(512, 0)))
alone("status over the end", lambda h: status(h, 513, SIZE - 512))
alone("status past the end", lambda h: status(h, 512, SIZE + M))
alone("status of nothing", lambda h: status(h, 0, 0))
alone("status of nothing past the end", lambda h: status(h, 0, SIZE + 1))
alone("status of 4 GiB", lambda h: status(h, (1 << 32) - 1, 0))
line("cache of data", lambda: h.cache(64 * K, 0))
line("cache of nothing allocated", lambda: h.cache(64 * K, 4 * M))
line("cache of no block", lambda: h.cache(777, 77))
line("cache of all", lambda: h.cache(SIZE, 0))
alone("cache over the end", lambda h: h.cache(513, SIZE - 512))
alone("cache past the end", lambda h: h.cache(512, SIZE + M))
alone("cache of nothing", lambda h: h.cache(0, 0))
alone("cache of nothing past the end", lambda h: h.cache(0, SIZE + 1))
