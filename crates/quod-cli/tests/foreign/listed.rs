//! The table of differences: all that a client can see of us otherwise than of qemu-nbd and qemu-storage-daemon, which
//! among themselves agree in all of it.

use crate::differences::Difference;

const ANY_BLOCK: &str = "We take requests of any length at any offset, and say so; of a format of blocks of 512 bytes the \
     others say 512, although they take any as well. Clients that mind (nbdfuse, kernels) need not cut or widen theirs.";
const TELLS_WHAT: &str = "We describe an export by its file and format unless told otherwise; the others have no \
     description unless told one.";
const PROTOCOL_ERRNOS: &str = "The protocol has ENOSPC for writes and zeroes beyond the end, and EPERM for any change of \
     a read-only export; the others give EINVAL for both.";
const FAST_ZEROES: &str = "Zeroes are entries of a table, or a punched hole, so fast zeroes are given where they are \
     advertised; the others advertise them and refuse each for this format.";
const ZEROES_ALREADY: &str = "What reads as zeroes without a backing file is left as it is; the others mark it with \
     entries of a table, or allocate it for a part of a cluster. The disk is the same.";
const TRIMS: &str = "A trim gives the room back, and reads as zeroes; the others do nothing for this format.";
const BEYOND_THE_BACKING_FILE: &str = "Past the end of the backing file nothing is allocated in any layer: depth 0. The \
     others name the depth of the file that ends before.";

/// Facts of an export, in JSON.
pub(crate) const FACTS_OF_PLAIN: &[Difference] = &[
    Difference {
        step: "info*",
        why: ANY_BLOCK,
        lines: &[("\"block_size_minimum\": 1,", "\"block_size_minimum\": 512,")],
    },
    Difference { step: "info*", why: TELLS_WHAT, lines: &[("\"description\": \"plain.qed (qed)\",", "")] },
];

pub(crate) const FACTS_OF_LARGE: &[Difference] = &[
    Difference {
        step: "info*",
        why: ANY_BLOCK,
        lines: &[("\"block_size_minimum\": 1,", "\"block_size_minimum\": 512,")],
    },
    Difference { step: "info*", why: TELLS_WHAT, lines: &[("\"description\": \"large.qed (qed)\",", "")] },
];

pub(crate) const FACTS_OF_OVER: &[Difference] = &[
    Difference {
        step: "info*",
        why: ANY_BLOCK,
        lines: &[("\"block_size_minimum\": 1,", "\"block_size_minimum\": 512,")],
    },
    Difference { step: "info*", why: TELLS_WHAT, lines: &[("\"description\": \"over.qed (qed)\",", "")] },
];

pub(crate) const LISTED_BY_QEMU: &[Difference] = &[
    Difference { step: "list of qemu-nbd", why: ANY_BLOCK, lines: &[("min block: 1", "min block: 512")] },
    Difference { step: "list of qemu-nbd", why: TELLS_WHAT, lines: &[("description: plain.qed (qed)", "")] },
];

pub(crate) const DEPTHS_OF_OVER: &[Difference] = &[
    Difference {
        step: "map depth",
        why: BEYOND_THE_BACKING_FILE,
        lines: &[
            ("7405568     2031616    0  absent", ""),
            ("", "7405568      983040    0  absent"),
            ("", "8388608     1048576    2  backing depth 2"),
            ("9502720      983040    0  absent", ""),
            ("", "9502720      983040    2  backing depth 2"),
            ("10551296     2031616    0  absent", ""),
            ("", "10551296     2031616    2  backing depth 2"),
        ],
    },
    Difference {
        step: "totals of depth",
        why: BEYOND_THE_BACKING_FILE,
        lines: &[
            (
                "{ \"size\": 8192000, \"percent\": 65.1042, \"type\": 0, \"description\": \"absent\" },",
                "{ \"size\": 4128768, \"percent\": 32.8125, \"type\": 0, \"description\": \"absent\" },",
            ),
            (
                "{ \"size\": 3407872, \"percent\": 27.0833, \"type\": 2, \"description\": \"backing depth 2\" }",
                "{ \"size\": 7471104, \"percent\": 59.375, \"type\": 2, \"description\": \"backing depth 2\" }",
            ),
        ],
    },
];

pub(crate) const STATUS_OVER: &[Difference] = &[Difference {
    step: "status",
    why: BEYOND_THE_BACKING_FILE,
    lines: &[
        (
            "depth: 2+524288 1+262144 2+1310720 1+524288 2+524288 0+3145728 2+1048576 1+65536 0+2031616 1+65536 \
             0+983040 1+65536 0+2031616",
            "depth: 2+524288 1+262144 2+1310720 1+524288 2+524288 0+3145728 2+1048576 1+65536 0+983040 2+1048576 \
             1+65536 2+983040 1+65536 2+2031616",
        ),
        ("the last block: 3+512 | 0+512", "the last block: 3+512 | 2+512"),
        ("REQ_ONE the last block: 3+512 | 0+512", "REQ_ONE the last block: 3+512 | 2+512"),
        ("MiB 8: 3+1048576 | 0+1048576", "MiB 8: 3+1048576 | 2+1048576"),
        ("REQ_ONE MiB 8: 3+1048576 | 0+1048576", "REQ_ONE MiB 8: 3+1048576 | 2+1048576"),
        ("MiB 9: 0+65536 3+983040 | 1+65536 0+983040", "MiB 9: 0+65536 3+983040 | 1+65536 2+983040"),
        ("MiB 10: 3+1048576 | 1+65536 0+983040", "MiB 10: 3+1048576 | 1+65536 2+983040"),
        ("MiB 11: 3+1048576 | 0+1048576", "MiB 11: 3+1048576 | 2+1048576"),
        ("REQ_ONE MiB 11: 3+1048576 | 0+1048576", "REQ_ONE MiB 11: 3+1048576 | 2+1048576"),
    ],
}];

pub(crate) const READS: &[Difference] = &[Difference {
    step: "reads",
    why: "Neighbouring holes are one hole to a reader, whether they are zero clusters or not allocated; the others send \
          one for each kind.",
    lines: &[(
        "structured all: data 0+1048576 hole 1048576+4194304 data 5242880+65536 hole 5308416+3080192 data \
         8388608+131072 hole 8519680+8257536 data 16777216+512",
        "structured all: data 0+1048576 hole 1048576+1048576 hole 2097152+1048576 hole 3145728+2097152 data \
         5242880+65536 hole 5308416+3080192 data 8388608+131072 hole 8519680+8257536 data 16777216+512",
    )],
}];

pub(crate) const WRITES: &[Difference] = &[Difference {
    step: "writes",
    why: PROTOCOL_ERRNOS,
    lines: &[
        ("pwrite over the end: ENOSPC by server", "pwrite over the end: EINVAL by server"),
        ("pwrite at the end: ENOSPC by server", "pwrite at the end: EINVAL by server"),
        ("pwrite past the end: ENOSPC by server", "pwrite past the end: EINVAL by server"),
        ("pwrite far past the end: ENOSPC by server", "pwrite far past the end: EINVAL by server"),
        ("pwrite at the last offset: ENOSPC by server", "pwrite at the last offset: EINVAL by server"),
        (
            "pwrite of nothing past the end: ENOSPC by server",
            "pwrite of nothing past the end: EINVAL by server",
        ),
    ],
}];

pub(crate) const READ_ONLY: &[Difference] = &[Difference {
    step: "read_only",
    why: PROTOCOL_ERRNOS,
    lines: &[
        ("pwrite: EPERM by server", "pwrite: EINVAL by server"),
        ("pwrite FUA: EPERM by server", "pwrite FUA: EINVAL by server"),
        ("pwrite of nothing: EPERM by server", "pwrite of nothing: EINVAL by server"),
        ("pwrite past the end: EPERM by server", "pwrite past the end: EINVAL by server"),
        ("zero: EPERM by server", "zero: EINVAL by server"),
        ("zero FAST_ZERO: EPERM by server", "zero FAST_ZERO: EINVAL by server"),
        ("trim: EPERM by server", "trim: EINVAL by server"),
    ],
}];

pub(crate) const FLAGS: &[Difference] = &[Difference {
    step: "flags",
    why: FAST_ZEROES,
    lines: &[("zero FAST_ZERO: None", "zero FAST_ZERO: ENOTSUP by server")],
}];

pub(crate) const HANDSHAKE: &[Difference] = &[
    Difference {
        step: "handshake",
        why: TELLS_WHAT,
        lines: &[
            ("list: [('', 'plain.qed (qed)')]", "list: [('', '')]"),
            ("description after info: 'plain.qed (qed)'", "description after info: ENOTSUP by server"),
        ],
    },
    Difference {
        step: "handshake",
        why: ANY_BLOCK,
        lines: &[
            ("blocks after info: 1 4096 33554432", "blocks after info: 512 4096 33554432"),
            ("blocks: 1 4096 33554432", "blocks: 512 4096 33554432"),
            ("blocks fixed: 1 4096 33554432", "blocks fixed: 512 4096 33554432"),
            ("blocks both: 1 4096 33554432", "blocks both: 512 4096 33554432"),
        ],
    },
];

pub(crate) const ZEROES: &[Difference] = &[
    Difference {
        step: "zeroes",
        why: ZEROES_ALREADY,
        lines: &[
            ("of nothing allocated: 3+131072 | 0+131072", "of nothing allocated: 3+131072 | 1+131072"),
            ("over an edge: 3+32768 0+32768 | 0+32768 1+32768", "over an edge: 0+65536 | 1+65536"),
            (
                "NO_HOLE of nothing allocated: 3+65536 | 0+65536",
                "NO_HOLE of nothing allocated: 3+65536 | 1+65536",
            ),
            ("NO_HOLE of a part: 3+1024 | 0+1024", "NO_HOLE of a part: 0+1024 | 1+1024"),
            ("trim nothing allocated: 3+65536 | 0+65536", "trim nothing allocated: 3+65536 | 1+65536"),
        ],
    },
    Difference {
        step: "zeroes",
        why: FAST_ZEROES,
        lines: &[
            ("zero FAST_ZERO: None", "zero FAST_ZERO: ENOTSUP by server"),
            ("pread after FAST_ZERO: 11x512 0x65536 11x512", "pread after FAST_ZERO: 11x66560"),
            ("zero FAST_ZERO of a part: None", "zero FAST_ZERO of a part: ENOTSUP by server"),
            (
                "pread after FAST_ZERO of a part: 11x512 0x1024 11x512",
                "pread after FAST_ZERO of a part: 11x2048",
            ),
            (
                "zero FAST_ZERO of nothing allocated: None",
                "zero FAST_ZERO of nothing allocated: ENOTSUP by server",
            ),
        ],
    },
    Difference {
        step: "zeroes",
        why: TRIMS,
        lines: &[
            (
                "pread after trim a data cluster: 0x66560",
                "pread after trim a data cluster: 0x512 4x65536 0x512",
            ),
            ("pread after trim a part: 3x512 0x1024 3x512", "pread after trim a part: 3x2048"),
            ("pread after trim no block: 3x512 0x333 3x512", "pread after trim no block: 3x1357"),
            (
                "pread after trim FUA a data cluster: 0x66560",
                "pread after trim FUA a data cluster: 0x512 12x65536 0x512",
            ),
            (
                "pread after trim FUA a part: 3x512 0x1024 3x512",
                "pread after trim FUA a part: 3x512 12x1024 3x512",
            ),
            (
                "pread after trim FUA nothing allocated: 0x66560",
                "pread after trim FUA nothing allocated: 0x512 12x65536 0x512",
            ),
            (
                "pread after trim FUA zero clusters: 0x66560",
                "pread after trim FUA zero clusters: 0x512 12x65536 0x512",
            ),
            (
                "pread after trim FUA no block: 3x512 0x333 3x512",
                "pread after trim FUA no block: 3x512 12x333 3x512",
            ),
        ],
    },
    Difference {
        step: "zeroes",
        why: PROTOCOL_ERRNOS,
        lines: &[
            ("zero over the end: ENOSPC by server", "zero over the end: EINVAL by server"),
            ("zero past the end: ENOSPC by server", "zero past the end: EINVAL by server"),
            (
                "zero of nothing past the end: ENOSPC by server",
                "zero of nothing past the end: EINVAL by server",
            ),
            ("zero at the last offset: ENOSPC by server", "zero at the last offset: EINVAL by server"),
            ("zero of 4 GiB: ENOSPC by server", "zero of 4 GiB: EINVAL by server"),
        ],
    },
];
