//! The model disk: what it allows, and that it rejects every kind of planted violation.

use quod_sim::{Forbidden, Model, SECTOR, stamp};

const LEN: usize = 4 * SECTOR as usize;

fn data(sequence: u64) -> Vec<u8> {
    stamp::bytes(0, LEN, sequence)
}

/// A disk with one flushed write, number 1.
fn flushed() -> Model {
    let mut model = Model::new(1 << 20, Vec::new());
    write(&mut model, 1);
    flush(&mut model);
    model
}

fn write(model: &mut Model, sequence: u64) {
    let write = model.begin_write(0, &data(sequence));
    model.succeed(write);
}

fn flush(model: &mut Model) {
    let flush = model.begin_flush();
    model.succeed(flush);
}

fn read(model: &mut Model, bytes: &[u8]) -> Result<(), Forbidden> {
    let read = model.begin_read(0, bytes.len() as u64);
    model.read(read, bytes).map_err(|violation| violation.forbidden)
}

fn after_crash(model: &mut Model, bytes: &[u8]) -> Result<(), Forbidden> {
    model.crash();
    model.recovered(0, bytes).map_err(|violation| violation.forbidden)
}

#[test]
fn a_completed_write_is_what_a_read_returns() {
    let mut model = flushed();
    assert_eq!(read(&mut model, &data(1)), Ok(()));
    write(&mut model, 2);
    assert_eq!(read(&mut model, &data(1)), Err(Forbidden::Stale));
    assert_eq!(read(&mut model, &data(2)), Ok(()));
}

#[test]
fn planted_violations_of_each_kind_are_rejected() {
    assert_eq!(read(&mut flushed(), &stamp::bytes(LEN as u64, LEN, 1)), Err(Forbidden::Foreign));
    assert_eq!(read(&mut flushed(), &data(9)), Err(Forbidden::Stale));
    assert_eq!(read(&mut flushed(), &[0; LEN]), Err(Forbidden::Zeroes));
    assert_eq!(read(&mut flushed(), &[0x51; LEN]), Err(Forbidden::Garbage));
    let mut model = flushed();
    let torn = [&data(1)[..256], &data(2)[256..]].concat();
    let writing = model.begin_write(0, &data(2));
    assert_eq!(read(&mut model, &torn), Err(Forbidden::Torn), "both halves are allowed, the sector is not");
    model.succeed(writing);
}

#[test]
fn backing_bytes_never_show_where_flushed_data_was() {
    let backing = stamp::bytes(0, LEN, stamp::BACKING);
    let mut model = Model::new(1 << 20, backing.clone());
    assert_eq!(read(&mut model, &backing), Ok(()));
    write(&mut model, 1);
    flush(&mut model);
    assert_eq!(after_crash(&mut model, &backing), Err(Forbidden::Stale));
}

#[test]
fn an_unflushed_write_may_be_lost_sector_by_sector() {
    let mixed = [&data(1)[..512], &data(2)[512..1024], &data(1)[1024..]].concat();
    for survivor in [data(1), data(2), mixed] {
        let mut model = flushed();
        write(&mut model, 2);
        assert_eq!(after_crash(&mut model, &survivor), Ok(()));
    }
}

#[test]
fn a_flush_covers_what_completed_before_it_began() {
    let mut model = flushed();
    let early = model.begin_flush();
    write(&mut model, 2);
    model.succeed(early);
    assert_eq!(after_crash(&mut model, &data(1)), Ok(()), "the write completed after the flush had begun");

    let mut model = flushed();
    write(&mut model, 2);
    flush(&mut model);
    assert_eq!(after_crash(&mut model, &data(1)), Err(Forbidden::Stale));
}

#[test]
fn a_failed_flush_promises_nothing() {
    let mut model = flushed();
    write(&mut model, 2);
    let failed = model.begin_flush();
    model.give_up(failed);
    assert_eq!(after_crash(&mut model, &data(1)), Ok(()));
}

#[test]
fn fua_covers_its_own_write_alone() {
    let mut model = Model::new(1 << 20, Vec::new());
    let other = model.begin_write(LEN as u64, &stamp::bytes(LEN as u64, LEN, 1));
    model.succeed(other);
    let fua = model.begin_write(0, &data(2));
    model.succeed_durably(fua);
    model.crash();
    model.recovered(LEN as u64, &[0; LEN]).unwrap();
    assert_eq!(model.recovered(0, &[0; LEN]).unwrap_err().forbidden, Forbidden::Zeroes);
    model.recovered(0, &data(2)).unwrap();
}

#[test]
fn fua_does_not_cover_what_runs_beside_it() {
    let mut model = flushed();
    let fua = model.begin_write(0, &data(2));
    let beside = model.begin_write(0, &data(3));
    model.succeed(beside);
    write(&mut model, 4);
    model.succeed_durably(fua);
    assert_eq!(after_crash(&mut model, &data(3)), Ok(()), "its order with the FUA write is nobody's promise");
    let mut model = flushed();
    let fua = model.begin_write(0, &data(2));
    model.succeed_durably(fua);
    assert_eq!(after_crash(&mut model, &data(1)), Err(Forbidden::Stale));
}

#[test]
fn concurrent_writes_leave_either_until_a_read_has_told() {
    let mut model = flushed();
    let (one, other) = (model.begin_write(0, &data(2)), model.begin_write(0, &data(3)));
    assert_eq!(read(&mut model, &data(1)), Ok(()));
    model.succeed(one);
    assert_eq!(read(&mut model, &data(1)), Err(Forbidden::Stale), "one of them is done");
    model.succeed(other);
    assert_eq!(read(&mut model, &data(3)), Ok(()));
    assert_eq!(read(&mut model, &data(2)), Err(Forbidden::Stale), "the last read has shown what is there");
}

#[test]
fn a_part_of_a_sector_lands_on_top_of_what_is_there() {
    let mut model = flushed();
    let part = model.begin_write(100, &stamp::bytes(100, 50, 2));
    model.succeed(part);
    let mut expected = data(1);
    stamp::fill(&mut expected[100..150], 100, 2);
    assert_eq!(read(&mut model, &data(1)), Err(Forbidden::Stale));
    assert_eq!(read(&mut model, &expected), Ok(()));
}

#[test]
fn neither_of_two_parts_of_a_sector_is_lost() {
    let mut model = flushed();
    let one = model.begin_write(0, &stamp::bytes(0, 128, 2));
    let other = model.begin_write(256, &stamp::bytes(256, 128, 3));
    model.succeed(one);
    model.succeed(other);
    let mut only_one = data(1);
    stamp::fill(&mut only_one[..128], 0, 2);
    assert_eq!(read(&mut model, &only_one), Err(Forbidden::Stale));
    stamp::fill(&mut only_one[256..384], 256, 3);
    assert_eq!(read(&mut model, &only_one), Ok(()));
}

#[test]
fn parts_of_a_sector_land_in_any_order_when_they_run_side_by_side() {
    let mut model = flushed();
    let zero = model.begin_zero(128, 128);
    let part = model.begin_write(192, &stamp::bytes(192, 128, 2));
    let whole = model.begin_write(0, &data(3));
    for request in [zero, part, whole] {
        model.succeed(request);
    }
    let mut zero_last = data(3);
    stamp::fill(&mut zero_last[192..320], 192, 2);
    zero_last[128..256].fill(0);
    assert_eq!(read(&mut model, &zero_last), Ok(()));
}

#[test]
fn a_completed_write_does_not_vanish_around_a_part_that_is_written_beside_it() {
    let part_over = |below: u64| [&stamp::bytes(0, 16, 2), &data(below)[16..SECTOR as usize]].concat();
    let beside = || {
        let mut model = flushed();
        let part = model.begin_write(0, &stamp::bytes(0, 16, 2));
        let whole = model.begin_write(0, &data(3));
        model.succeed_durably(whole);
        (model, part)
    };
    let (mut model, part) = beside();
    assert_eq!(read(&mut model, &part_over(1)), Err(Forbidden::Stale));
    assert_eq!(read(&mut model, &part_over(3)), Ok(()));
    assert_eq!(read(&mut model, &data(3)), Ok(()), "the part lies below, or has not landed yet");
    model.succeed(part);
    flush(&mut model);
    assert_eq!(read(&mut model, &part_over(1)), Err(Forbidden::Stale));
    let (mut model, _) = beside();
    assert_eq!(after_crash(&mut model, &part_over(1)), Err(Forbidden::Stale));
}

#[test]
fn no_order_of_many_parts_side_by_side_is_forgotten() {
    for seed in 0..200 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut model = flushed();
        let mut sector = data(1)[..SECTOR as usize].to_vec();
        let mut parts = Vec::new();
        for sequence in 2..7 {
            let at = dice.u64(..SECTOR - 1);
            let bytes = stamp::bytes(at, dice.usize(1..=(SECTOR - at) as usize), sequence);
            parts.push((model.begin_write(at, &bytes), at as usize, bytes));
        }
        dice.shuffle(&mut parts);
        for (request, at, bytes) in parts {
            model.succeed(request);
            sector[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        assert_eq!(read(&mut model, &sector), Ok(()), "seed {seed}");
    }
}

#[test]
fn a_write_that_was_given_up_may_land_until_the_next_one_completes() {
    let mut model = flushed();
    let dropped = model.begin_write(0, &data(2));
    model.give_up(dropped);
    for _ in 0..2 {
        assert_eq!(read(&mut model, &data(1)), Ok(()));
        assert_eq!(read(&mut model, &data(2)), Ok(()));
    }
    write(&mut model, 3);
    assert_eq!(read(&mut model, &data(2)), Err(Forbidden::Stale));
    flush(&mut model);
    assert_eq!(after_crash(&mut model, &data(2)), Err(Forbidden::Stale));
}

#[test]
fn a_discard_leaves_the_old_value_or_zeroes_and_stays_by_it() {
    for shown in [data(1), vec![0; LEN]] {
        let mut model = flushed();
        let discard = model.begin_discard(0, LEN as u64);
        model.succeed(discard);
        assert_eq!(read(&mut model, &data(7)), Err(Forbidden::Stale));
        assert_eq!(read(&mut model, &shown), Ok(()));
        let other = if shown == data(1) { vec![0; LEN] } else { data(1) };
        assert!(read(&mut model, &other).is_err());
        flush(&mut model);
        assert!(after_crash(&mut model, &other).is_err(), "a flush keeps what was shown");
    }
}

#[test]
fn a_durable_discard_keeps_what_it_has_cleared_and_not_what_a_request_beside_it_has() {
    let discarded = |beside: bool| {
        let mut model = flushed();
        let discard = model.begin_discard(0, LEN as u64);
        if beside {
            let zero = model.begin_zero(0, LEN as u64);
            model.succeed(zero);
        }
        model.succeed_durably(discard);
        assert_eq!(read(&mut model, &[0; LEN]), Ok(()));
        after_crash(&mut model, &data(1))
    };
    assert_eq!(discarded(false), Err(Forbidden::Stale));
    assert_eq!(discarded(true), Ok(()), "the zeroes that were read may have been those of the zero write");
}

#[test]
fn a_zero_write_is_a_write() {
    let mut model = flushed();
    let zero = model.begin_zero(0, LEN as u64);
    model.succeed(zero);
    assert_eq!(read(&mut model, &data(1)), Err(Forbidden::Stale));
    assert_eq!(read(&mut model, &[0; LEN]), Ok(()));
    assert_eq!(after_crash(&mut model, &data(1)), Ok(()), "it was not flushed");
}

#[test]
fn what_recovery_has_shown_stays() {
    let mut model = flushed();
    write(&mut model, 2);
    assert_eq!(after_crash(&mut model, &data(2)), Ok(()));
    assert_eq!(after_crash(&mut model, &data(1)), Err(Forbidden::Stale));
    assert_eq!(after_crash(&mut model, &data(2)), Ok(()));
}

#[test]
fn a_killed_process_loses_no_completed_write() {
    let mut model = flushed();
    write(&mut model, 2);
    let under_way = model.begin_write(0, &data(3));
    model.kill();
    assert_eq!(read(&mut model, &data(1)), Err(Forbidden::Stale));
    assert_eq!(read(&mut model, &data(3)), Ok(()));
    let _ = under_way;
}

#[test]
fn a_read_sees_what_was_there_at_some_time_while_it_ran() {
    let mut model = flushed();
    let reading = model.begin_read(0, LEN as u64);
    write(&mut model, 2);
    flush(&mut model);
    write(&mut model, 3);
    model.read(reading, &data(1)).unwrap();
    let reading = model.begin_read(0, LEN as u64);
    assert!(model.read(reading, &data(2)).is_err());
}

#[test]
fn through_a_page_cache_a_read_beside_a_write_sees_bytes_of_both() {
    let mixed = [&data(2)[..700], &data(1)[700..]].concat();
    for (mut model, verdict) in [(flushed(), Err(Forbidden::Torn)), (flushed().on_page_cache(), Ok(()))] {
        let writing = model.begin_write(0, &data(2));
        assert_eq!(read(&mut model, &mixed), verdict);
        model.succeed(writing);
        assert_eq!(read(&mut model, &mixed), Err(Forbidden::Stale), "nothing runs beside it");
    }
    // Two that ran side by side, of which either may be there, and whole.
    let mut model = flushed().on_page_cache();
    let writing = [2, 3].map(|sequence| model.begin_write(0, &data(sequence)));
    writing.into_iter().for_each(|writing| model.succeed(writing));
    let half_of_each = [&data(2)[..200], &data(3)[200..]].concat();
    assert_eq!(read(&mut model, &half_of_each), Err(Forbidden::Torn));
    assert_eq!(read(&mut model, &data(3)), Ok(()));
    let mut model = flushed().on_page_cache();
    let _writing = model.begin_write(0, &data(2));
    let bytes_of_neither = [&data(2)[..700], &data(3)[700..]].concat();
    assert!(read(&mut model, &bytes_of_neither).is_err());
    model.kill();
    assert!(model.recovered(0, &mixed).is_err(), "what is at rest has whole sectors");
}

#[test]
fn a_grown_disk_shows_zeroes_past_its_old_end() {
    let mut model = Model::new(SECTOR, stamp::bytes(0, 4 * SECTOR as usize, stamp::BACKING));
    model.grow(4 * SECTOR);
    let mut expected = stamp::bytes(0, SECTOR as usize, stamp::BACKING);
    expected.resize(4 * SECTOR as usize, 0);
    assert_eq!(read(&mut model, &expected), Ok(()));
    assert_eq!(read(&mut model, &stamp::bytes(0, LEN, stamp::BACKING)), Err(Forbidden::Stale));
}

#[test]
fn a_violation_reads_as_a_sentence() {
    let mut model = flushed();
    let reading = model.begin_read(0, SECTOR);
    let found = [stamp::bytes(0x4000, 256, 5), vec![0; 256]].concat();
    let violation = model.read(reading, &found).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "sector 0x0 is Foreign: it holds bytes of guest address 0x4000, write 5 from 0, zeroes from 256; \
         allowed: write 1 from 0"
    );
}

#[test]
fn a_sector_that_cannot_be_followed_is_followed_again_once_a_recovery_has_shown_it() {
    let mut model = flushed();
    let parts = (0..20).map(|part| stamp::bytes(16 * part, 48 + 16 * part as usize % 160, 2 + part));
    let begun: Vec<_> = (0..).zip(parts).map(|(part, bytes)| model.begin_write(16 * part, &bytes)).collect();
    for request in begun {
        model.give_up(request);
    }
    // Any of them may land yet: what a read shows does not stay.
    flush(&mut model);
    assert_eq!(read(&mut model, &data(1)), Ok(()));
    let other = [&stamp::bytes(0, 48, 2), &data(1)[48..]].concat();
    assert_eq!(read(&mut model, &other), Ok(()));
    model.settle();
    assert_eq!(model.recovered(0, &other).map_err(|violation| violation.forbidden), Ok(()));
    assert_eq!(read(&mut model, &other), Ok(()));
    assert_eq!(read(&mut model, &data(1)), Err(Forbidden::Stale));
}
