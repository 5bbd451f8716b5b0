//! The guest of a served disk, who knows what the disk may hold.
//!
//! Role: stamped requests, one at a time, by NBD; a model that is told of each, and judges what is read while the server
//! runs, by qemu-img when it has ended, and from the next server.
//!
//! Absent on purpose: what a request's failure means for later ones; that is what the tests are about.

use quod_nbd::{CMD_FLAG_FUA, Command, Errno};
use quod_sim::{Model, Request, stamp};

use crate::common::found::{Found, needs_check};
use crate::common::serving::Serving;
use crate::common::wire::{Ask, Wire};
use crate::common::{Ran, Room};
use crate::sabotage::Sabotage;

pub(crate) const IMAGE: &str = "a.qed";
pub(crate) const CLUSTER: u64 = 64 << 10;
/// Of the disks, in bytes.
pub(crate) const SIZE: u64 = 16 << 20;

pub(crate) struct Guest {
    /// Where the image is.
    pub(crate) room: Room,
    /// Where a socket can be.
    sockets: Room,
    pub(crate) serving: Serving,
    wire: Wire,
    model: Model,
    sequence: u64,
    over: bool,
}

/// What came of a request.
pub(crate) type Told = Result<(), Errno>;

impl Guest {
    /// Serves a new disk, over a stamped one if that is wanted, whose first three clusters are written.
    pub(crate) fn with_data(over: Option<&str>) -> Self {
        let mut guest = Guest::new(Room::on_disk(), over);
        assert_eq!(guest.write(0, 3 * CLUSTER), Ok(()));
        assert_eq!(guest.flush(), Ok(()));
        guest
    }

    /// Makes an empty disk in the room, or one over a stamped one, and serves it.
    pub(crate) fn new(room: Room, over: Option<&str>) -> Self {
        let mut below = Vec::new();
        if over.is_some() {
            // Not a whole number of clusters.
            below = stamp::bytes(0, (SIZE - CLUSTER / 2) as usize, stamp::BACKING);
            room.write("base.raw", &below);
            room.quod(&["create", "-q", "-b", "base.raw", "-F", "raw", IMAGE, "16M"]).exits(0);
        } else {
            room.quod(&["create", "-q", IMAGE, "16M"]).exits(0);
        }
        Guest::serving(room, Model::new(SIZE, below), over.is_some(), 0)
    }

    fn serving(room: Room, model: Model, over: bool, sequence: u64) -> Self {
        let sockets = Room::new();
        let socket = sockets.path("socket");
        let place = socket.to_str().expect("temporary directories have plain names");
        // What io_uring does is no system call, and cannot be made to fail.
        let how = ["--format", "qed", "--commit", "through", "--aio", "threads", "--socket", place, IMAGE];
        let serving = Serving::start(&room, &how);
        let wire = Wire::connect(&socket);
        Guest { room, sockets, serving, wire, model, sequence, over }
    }

    pub(crate) fn write(&mut self, at: u64, len: u64) -> Told {
        self.write_with(at, len, 0)
    }

    pub(crate) fn write_durably(&mut self, at: u64, len: u64) -> Told {
        self.write_with(at, len, CMD_FLAG_FUA)
    }

    fn write_with(&mut self, at: u64, len: u64, flags: u16) -> Told {
        self.sequence += 1;
        let bytes = stamp::bytes(at, len as usize, self.sequence);
        let request = self.model.begin_write(at, &bytes);
        self.send(&Ask::write(at, &bytes).with(flags), request)
    }

    pub(crate) fn zero(&mut self, at: u64, len: u64) -> Told {
        let request = self.model.begin_zero(at, len);
        self.send(&Ask::of(Command::WriteZeroes, at, len), request)
    }

    pub(crate) fn trim(&mut self, at: u64, len: u64) -> Told {
        let request = self.model.begin_discard(at, len);
        self.send(&Ask::of(Command::Trim, at, len), request)
    }

    pub(crate) fn flush(&mut self) -> Told {
        let request = self.model.begin_flush();
        self.send(&Ask::of(Command::Flush, 0, 0), request)
    }

    fn send(&mut self, ask: &Ask<'_>, request: Request) -> Told {
        match self.wire.ask(ask) {
            Ok(_) if ask.flags & CMD_FLAG_FUA != 0 => self.model.succeed_durably(request),
            Ok(_) => self.model.succeed(request),
            Err(errno) => {
                self.model.give_up(request);
                return Err(errno);
            }
        }
        Ok(())
    }

    /// The image says that a crash may leave something to repair, where that can be.
    #[track_caller]
    pub(crate) fn is_dirty(&self) {
        assert_eq!(needs_check(&self.room.path(IMAGE)), !self.over, "not needed over a backing file (D5)");
    }

    /// Reads, and judges what comes.
    #[track_caller]
    pub(crate) fn read(&mut self, at: u64, len: u64) -> Told {
        let request = self.model.begin_read(at, len);
        let bytes = self.wire.ask(&Ask::of(Command::Read, at, len));
        let bytes = bytes.inspect_err(|_| self.model.give_up(request))?;
        self.model.read(request, &bytes).unwrap_or_else(|violation| panic!("{violation}"));
        Ok(())
    }

    /// Reads the whole disk.
    #[track_caller]
    pub(crate) fn reads_all(&mut self) {
        assert_eq!(self.read(0, SIZE), Ok(()));
    }

    /// Reads, and judges nothing.
    #[track_caller]
    pub(crate) fn bytes(&mut self, at: u64, len: u64) -> Vec<u8> {
        self.wire.ask(&Ask::of(Command::Read, at, len)).expect("it can be read")
    }

    /// From now on the `calls` of the server on a file of the room come out as `outcome` says.
    #[track_caller]
    pub(crate) fn sabotage(&self, file: &str, calls: &str, outcome: &str) -> Sabotage {
        Sabotage::of(&self.serving, &self.room, file, calls, outcome)
    }

    /// Checks that nothing is written any more, and that all is read (D10).
    #[track_caller]
    pub(crate) fn is_latched(&mut self) {
        let refused = Err(Errno::Io);
        assert_eq!(self.write(0, 512), refused, "in place");
        assert_eq!(self.write(SIZE - CLUSTER, CLUSTER), refused, "a first write");
        assert_eq!(self.write_durably(CLUSTER, 512), refused);
        assert_eq!(self.zero(0, CLUSTER), refused);
        assert_eq!(self.trim(0, CLUSTER), refused);
        assert_eq!(self.flush(), refused);
        self.reads_all();
    }

    /// Stops the server; the disk must hold what it should, as qemu-img reads it, and be no worse than leaky.
    #[track_caller]
    pub(crate) fn stop(self) -> Stopped {
        let Guest { room, serving, model, over, sockets: _sockets, .. } = self;
        let ran = serving.stop("-TERM");
        let mut stopped = Stopped { found: Found::in_image(&room, IMAGE), room, model, ran, over };
        stopped.judge();
        stopped
    }

    /// Stops the server, which must have closed the image in order.
    #[track_caller]
    pub(crate) fn ends_well(self) {
        let Stopped { ran, found, .. } = self.stop();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.ends_with("everything written is in it, and it is clean.\n"), "{ran:?}");
        assert!(!found.needs_check);
    }
}

/// A disk whose server has ended.
pub(crate) struct Stopped {
    room: Room,
    model: Model,
    over: bool,
    pub(crate) ran: Ran,
    pub(crate) found: Found,
}

impl Stopped {
    #[track_caller]
    fn judge(&mut self) {
        self.model.kill();
        let seen = self.room.read_by_peer(IMAGE);
        self.model.recovered(0, &seen).unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Checks that the server said what was not safe, and left the bit where there was one.
    #[track_caller]
    pub(crate) fn was_not_closed(self) -> Self {
        assert_eq!(self.ran.code, Some(1), "{:?}", self.ran);
        assert!(self.ran.err.contains("a.qed was not closed in order: "), "{:?}", self.ran);
        assert_eq!(self.found.needs_check, !self.over);
        self
    }

    /// Serves the disk again, whose storage is well now: the next writable open repairs, and the disk works.
    #[track_caller]
    pub(crate) fn recovers(self) {
        let Stopped { room, model, over, .. } = self;
        // Numbers that no write has had.
        let mut guest = Guest::serving(room, model, over, 1 << 40);
        assert!(!needs_check(&guest.room.path(IMAGE)), "the open has repaired it");
        guest.reads_all();
        for at in [0, 7 * CLUSTER, SIZE - CLUSTER / 4] {
            assert_eq!(guest.write(at, CLUSTER / 4), Ok(()));
        }
        assert_eq!(guest.flush(), Ok(()));
        guest.reads_all();
        let Stopped { ran, found, over, .. } = guest.stop();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(over || found.leaks == 0, "{found:?}");
    }
}
