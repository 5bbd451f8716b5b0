# Every command with every flag that the protocol knows, and with one that it does not.
FLAGS = [("FUA", nbd.CMD_FLAG_FUA), ("NO_HOLE", nbd.CMD_FLAG_NO_HOLE), ("DF", nbd.CMD_FLAG_DF),
         ("REQ_ONE", nbd.CMD_FLAG_REQ_ONE), ("FAST_ZERO", nbd.CMD_FLAG_FAST_ZERO), ("unknown", 1 << 15)]
for name, flag in FLAGS:
    alone("read " + name, lambda h: runs(h.pread(512, 0, flag)))
    alone("write " + name, lambda h: h.pwrite(bytes(512), 4 << 20, flag))
    alone("flush " + name, lambda h: h.flush(flag))
    alone("trim " + name, lambda h: h.trim(512, 4 << 20, flag))
    alone("zero " + name, lambda h: h.zero(512, 4 << 20, flag))
    alone("cache " + name, lambda h: h.cache(512, 0, flag))
    alone("status " + name, lambda h: status(h, 512, 0, flag))
