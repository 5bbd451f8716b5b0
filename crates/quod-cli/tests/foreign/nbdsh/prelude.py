# What the scripts share. `uri` is set before. Every line printed begins with what it tells of and a colon.
import errno
import itertools

DEPTH = "qemu:allocation-depth"
BASE = nbd.CONTEXT_BASE_ALLOCATION


def connect(setup=lambda h: None):
    """A connection with all contexts, whose client passes on what it thinks is wrong."""
    h = nbd.NBD()
    h.add_meta_context(BASE)
    h.add_meta_context(DEPTH)
    setup(h)
    h.set_strict_mode(0)
    h.connect_uri(uri)
    return h


def line(name, call):
    """Prints what a call gives, or its error, and who made it."""
    try:
        told = call()
    except nbd.Error as error:
        who = "server" if "command failed" in error.string or "server" in error.string else "client"
        told = "%s by %s" % (errno.errorcode.get(error.errnum, error.errnum), who)
    print("%s: %s" % (name, told))


def alone(name, call):
    """The same on a connection of its own, and whether that is still good."""
    h = connect()

    def either():
        try:
            return call(h)
        except nbd.Error:
            if h.aio_is_dead() or h.aio_is_closed():
                return "the connection ends"
            raise

    line(name, either)
    if h.aio_is_ready():
        line(name + ", then", lambda: len(h.pread(512, 0)))


def runs(data):
    """Bytes as values and how many of each."""
    return " ".join("%dx%d" % (value, len(list(group))) for value, group in itertools.groupby(data))


def merged(extents):
    """Neighbours of one kind as one."""
    return [(kind, sum(length for _, length in group))
            for kind, group in itertools.groupby(extents, key=lambda extent: extent[0])]


def status(h, length, offset, flags=0):
    """The extents of base:allocation, then those of qemu:allocation-depth, as they came."""
    found = {}

    def extent(context, offset, entries, error):
        found.setdefault(context, []).extend(entries)

    h.block_status(length, offset, extent, flags)
    return " | ".join(" ".join("%d+%d" % (kind, length) for length, kind in zip(entries[::2], entries[1::2]))
                      for _, entries in sorted(found.items()))


def chunks(h, length, offset, flags=0):
    """The chunks of a read, in order of their offsets."""
    found = []
    names = {nbd.READ_DATA: "data", nbd.READ_HOLE: "hole", nbd.READ_ERROR: "error"}

    def chunk(data, offset, status, error):
        found.append((offset, len(data), names[status]))

    data = h.pread_structured(length, offset, chunk, flags)
    return "%s | %s" % (" ".join("%s %d+%d" % (kind, at, length) for at, length, kind in sorted(found)),
                        runs(data))
