//! Several exports in one server: each is its own disk, and clients find the one that they name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use quod::{CreateOptions, Image, OpenOptions, block_on};
use quod_export::nbd::{ExportOptions, NameTaken, Server, ServerOptions};
use quod_nbd::*;
use quod_storage::{Access, LoopOpener};
use support::{Client, Served, named};

/// A client of the export of that name.
fn client(served: &Served, name: &str) -> Client {
    let mut client = served.greeted();
    client.option(OPT_GO, &ExportQuery { name, wanted: vec![] }.encode());
    while client.option_reply(OPT_GO).0 != REP_ACK {}
    client
}

#[test]
fn each_name_leads_to_its_own_disk_and_the_empty_one_to_the_first() {
    let served = Served::new(vec![named("a"), named("b"), named("c")]);
    for (name, fill) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(client(&served, name).write(0, &[fill; 4096]), Ok(()));
    }
    for (name, fill) in [("", 1), ("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(client(&served, name).read(0, 4096).unwrap(), [fill; 4096]);
    }
    let mut old = served.greeted();
    old.option(OPT_EXPORT_NAME, b"b");
    old.array::<EXPORT_NAME_REPLY_LEN>();
    assert_eq!(old.read(0, 4096).unwrap(), [2; 4096]);
}

#[test]
fn the_list_has_all_exports_the_first_one_first() {
    let served = Served::new(vec![named("b"), named(""), named("a")]);
    let mut client = served.greeted();
    client.option(OPT_LIST, &[]);
    for name in ["b", "", "a"] {
        let (reply, data) = client.option_reply(OPT_LIST);
        assert_eq!((reply, decode_server(&data).unwrap().0), (REP_SERVER, name));
    }
    assert_eq!(client.option_reply(OPT_LIST), (REP_ACK, vec![]));
}

#[test]
fn a_description_that_the_protocol_has_no_room_for_is_cut() {
    let mut told = named("a");
    told.description = "é".repeat(3000) + "!";
    let served = Served::new(vec![told]);
    let mut client = served.greeted();
    client.option(OPT_LIST, &[]);
    let (_, data) = client.option_reply(OPT_LIST);
    assert_eq!(decode_server(&data).unwrap().1, "é".repeat(MAX_STRING / 2));
}

#[test]
fn an_export_that_has_the_empty_name_is_what_that_name_means() {
    let served = Served::new(vec![named("a"), named("")]);
    assert_eq!(client(&served, "a").write(0, &[1; 512]), Ok(()));
    assert_eq!(client(&served, "").read(0, 512).unwrap(), [0; 512]);
}

#[test]
fn what_one_export_refuses_another_may_take() {
    let mut golden = named("golden");
    golden.read_only = true;
    let served = Served::new(vec![golden, named("scratch")]);
    assert_eq!(client(&served, "golden").write(0, &[1; 512]), Err(Errno::Perm));
    assert_eq!(client(&served, "scratch").write(0, &[1; 512]), Ok(()));
}

#[test]
fn a_name_is_given_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk.qed");
    block_on(Image::create(&LoopOpener::default(), &file, &CreateOptions::new(1 << 20))).unwrap();
    let image =
        block_on(Image::open(&LoopOpener::default(), &file, &OpenOptions::new(Access::Read))).unwrap();
    let mut server = Server::new(ServerOptions::default());
    server.export(image.clone(), ExportOptions::default()).unwrap();
    server.export(image.clone(), named("a")).unwrap();
    let taken = server.export(image, named("a"));
    assert_eq!(taken, Err(NameTaken { name: "a".into() }));
}
