//! README.md shows what really works.

mod common;

use common::{QUOD, Room};

/// The block of shell commands under a heading of the README.
fn commands_under(heading: &str) -> String {
    let page = include_str!("../../../README.md");
    let (_, section) = page.split_once(heading).expect("the heading is there");
    let (_, block) = section.split_once("```sh\n").expect("it has a block of commands");
    block.split("```").next().expect("the block ends").to_owned()
}

#[test]
fn the_first_session_runs_as_it_stands() {
    let room = Room::new();
    let session = commands_under("## A first session");
    let (install, session) = session.split_once('\n').expect("it begins with the installation");
    assert!(install.starts_with("cargo install --path crates/quod-cli"));
    let directory = std::path::Path::new(QUOD).parent().expect("it is in a directory").display();
    let script = format!("set -e\nPATH={directory}:$PATH\n{session}");
    let ran = room.run("bash", &["-c", &script], "").exits(0);
    for line in [
        "No errors were found on the image.\n",
        "Closed clone.qed: everything written is in it, and it is clean.\n",
    ] {
        assert!(ran.out.contains(line), "{ran:?}");
    }
    assert!(ran.out.ends_with("Images are identical.\n"), "{ran:?}");
}
