//! What the checks of both tools find in an image that nobody has open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Room;
use super::header::NEED_CHECK;

/// Where the header has its feature bits.
const FEATURES: u64 = 16;

/// Leaks, and nothing worse.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) leaks: u64,
    pub(crate) needs_check: bool,
}

impl Found {
    /// Checks a QED image by qemu-img and by us, changing nothing. Both must find the same leaks, and nothing worse.
    #[track_caller]
    pub(crate) fn in_image(room: &Room, image: &str) -> Self {
        // Ours first: the kernel may still be finishing requests of a killed server, whose locks go with them. We wait
        // for those, the reference does not.
        let ours = room.quod(&["check", "-f", "qed", "--output=json", image]);
        let theirs = room.peer("qemu-img", &["check", "-f", "qed", "--output=json", image]);
        let leaks = [&theirs, &ours].map(|ran| {
            assert!(matches!(ran.code, Some(0 | 3)), "{theirs:?}\n{ours:?}");
            let report: serde_json::Value = serde_json::from_str(&ran.out).expect("it is JSON");
            assert!(report.get("corruptions").is_none(), "{ran:?}");
            assert_eq!(report["check-errors"], 0, "{ran:?}");
            report.get("leaks").map_or(0, |leaks| leaks.as_u64().expect("a number"))
        });
        assert_eq!(leaks[0], leaks[1], "{theirs:?}\n{ours:?}");
        Found { leaks: leaks[1], needs_check: needs_check(&room.path(image)) }
    }
}

/// Whether the header says so.
pub(crate) fn needs_check(image: &Path) -> bool {
    let mut features = [0; 8];
    let file = File::open(image).expect("the image is there");
    file.read_exact_at(&mut features, FEATURES).expect("it has a header");
    u64::from_le_bytes(features) & NEED_CHECK != 0
}
