//! docs/guide/ shows what really works.

mod common;

use common::{QUOD, Room};

const PAGE: &str = include_str!("../../../docs/guide/serve.md");

/// Blocks of shell commands that begin so want what a test does not have.
const NOT_HERE: &str = "# needs ";

/// A section of a page: its heading, and its blocks of shell commands.
fn sections(page: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let blocks = |section: &'static str| -> Vec<&'static str> {
        let begun = section.split("\n```sh\n").skip(1);
        begun.map(|rest| rest.split_once("```").expect("a block ends").0).collect()
    };
    let sections = page.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("it has text"));
    sections.map(|(heading, section)| (heading, blocks(section))).collect()
}

#[test]
fn every_section_runs_as_it_stands() {
    let directory = std::path::Path::new(QUOD).parent().expect("it is in a directory").display();
    for (heading, blocks) in sections(PAGE) {
        let session: String = blocks.into_iter().filter(|block| !block.starts_with(NOT_HERE)).collect();
        assert!(!session.is_empty(), "{heading} has commands");
        // Servers of a section that fails go with it, since they hold our pipes.
        let script = format!(
            "set -eu -o pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\nPATH={directory}:$PATH\n{session}"
        );
        let room = Room::new();
        let ran = room.run("timeout", &["120", "bash", "-c", &script], "");
        assert_eq!(ran.code, Some(0), "{heading}: {ran:?}");
        assert_eq!(
            ran.out.matches("\nServing ").count() + usize::from(ran.out.starts_with("Serving ")),
            ran.out.matches("\nClosed ").count(),
            "{heading}: {ran:?}"
        );
        assert!(!ran.err.contains("not closed") && !ran.err.contains("cut off"), "{heading}: {ran:?}");
    }
}

#[test]
fn what_is_not_run_here_is_shell_all_the_same() {
    let room = Room::new();
    for block in sections(PAGE).into_iter().flat_map(|(_, blocks)| blocks) {
        room.run("bash", &["-n"], block).exits(0);
    }
}
