# Options of the handshake, one by one.
def opened(setup=lambda h: None):
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.set_full_info(True)
    setup(h)
    h.connect_uri(uri)
    return h


def listed(h):
    found = []
    h.opt_list(lambda name, description: found.append((name, description)))
    return found


def contexts(h, queries):
    h.clear_meta_contexts()
    for query in queries:
        h.add_meta_context(query)
    found = []
    h.opt_list_meta_context(found.append)
    return found


def facts(h):
    return "%d %s %s %s" % (h.get_size(), h.get_protocol(), h.get_structured_replies_negotiated(),
                            h.is_rotational())


def blocks(h):
    return "%d %d %d" % tuple(h.get_block_size(which) for which in
                              [nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM])


h = opened()
line("list", lambda: listed(h))
line("info", lambda: h.opt_info())
line("facts after info", lambda: facts(h))
line("blocks after info", lambda: blocks(h))
line("name after info", lambda: repr(h.get_canonical_export_name()))
line("description after info", lambda: repr(h.get_export_description()))
for queries in [[], ["base:"], ["qemu:"], ["base:allocation"], ["qemu:allocation-depth"], ["base:other"],
                ["qemu:dirty-bitmap:"], ["other:thing"], ["base:", "qemu:"], ["nothing"]]:
    line("contexts of %s" % " ".join(queries), lambda: contexts(h, queries))
h.set_export_name("other")
line("info of another name", lambda: h.opt_info())
line("contexts of another name", lambda: contexts(h, []))
line("go to another name", lambda: h.opt_go())
h.set_export_name("")
h.clear_meta_contexts()
line("go", lambda: h.opt_go())
line("facts", lambda: facts(h))
line("blocks", lambda: blocks(h))
line("pread", lambda: runs(h.pread(512, 0)))
h = opened()
line("abort", lambda: h.opt_abort())
FIXED, SHORT = nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE, nbd.HANDSHAKE_FLAG_NO_ZEROES
for name, flags in [("none", 0), ("fixed", FIXED), ("no zeroes", SHORT), ("both", FIXED | SHORT)]:
    h = nbd.NBD()
    h.set_handshake_flags(flags)
    h.set_full_info(True)
    h.connect_uri(uri)
    line("facts " + name, lambda: facts(h))
    line("blocks " + name, lambda: blocks(h))
    line("pread " + name, lambda: runs(h.pread(512, 0)))
