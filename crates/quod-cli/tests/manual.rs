//! What a package of the command holds beside it: manual pages and completions.

mod common;

use common::{QUOD, Room};

/// The verbs that `quod --help` lists.
fn verbs(room: &Room) -> Vec<String> {
    let help = room.quod(&["--help"]).exits(0).out;
    let (_, list) = help.split_once("Commands:\n").expect("it lists them");
    let (list, _) = list.split_once("\n\n").expect("the list ends");
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    let verbs: Vec<_> = names.filter(|name| name != "help").collect();
    assert!(verbs.len() >= 7, "{help}");
    verbs
}

/// A page as a terminal shows it. What groff has to say against it fails the test.
fn formatted(room: &Room, page: &str) -> String {
    let ran = room.peer("groff", &["-man", "-Tascii", "-P-cbou", "-rLL=110n", "-ww", page]).exits(0);
    assert_eq!(ran.err, "", "{page}");
    ran.out
}

#[test]
fn every_verb_has_a_page_that_groff_takes_without_a_warning() {
    let room = Room::new();
    room.quod(&["man", "a/new/directory"]).exits(0);
    for verb in verbs(&room) {
        let page = formatted(&room, &format!("a/new/directory/quod-{verb}.1"));
        assert!(page.contains(&format!("quod-{verb} - ")), "{page}");
        for heading in ["SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "SEE ALSO"] {
            assert!(page.lines().any(|line| line == heading), "no {heading} in {page}");
        }
    }
    let page = formatted(&room, "a/new/directory/quod.1");
    for verb in verbs(&room) {
        assert!(page.contains(&format!("quod-{verb}(1)")), "{page}");
    }
}

#[test]
fn a_page_says_what_help_says() {
    let room = Room::new();
    room.quod(&["man", "."]).exits(0);
    for verb in verbs(&room) {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let page = words(&formatted(&room, &format!("quod-{verb}.1")));
        let help = room.quod(&[&verb, "--help"]).exits(0).out;
        for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let end = option.find(|c: char| c != '-' && !c.is_alphanumeric()).unwrap_or(option.len());
            assert!(page.contains(&option[..end]), "no {option} in {page}");
        }
        let (_, examples) = help.split_once("Examples:\n").expect("every verb has examples");
        for line in examples.lines() {
            assert!(page.contains(&words(line)), "no {line:?} in {page}");
        }
    }
}

#[test]
fn pages_are_the_same_bytes_each_time() {
    let room = Room::new();
    room.quod(&["man", "one"]).exits(0);
    room.quod(&["man", "two"]).exits(0);
    room.peer("diff", &["-r", "one", "two"]).exits(0);
    // Over pages that are there.
    room.quod(&["man", "two"]).exits(0);
    room.peer("diff", &["-r", "one", "two"]).exits(0);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let room = Room::new();
    room.write("file", b"");
    room.quod(&["man", "file"]).exits(1).tells("Could not make file: File exists");
}

/// What an interactive bash with our script prints and does when these keys are typed.
fn typed(room: &Room, keys: &str) -> String {
    let script = room.quod(&["completions", "bash"]).exits(0).out;
    room.write("quod.bash", script.as_bytes());
    let directory = std::path::Path::new(QUOD).parent().expect("it is in a directory").display();
    let keys = format!("PATH={directory}:$PATH; source quod.bash\n{keys}\nexit\n");
    // A terminal, since nobody completes without one.
    room.run("script", &["-qec", "TERM=dumb bash --norc -i", "/dev/null"], &keys).exits(0).out
}

#[test]
fn the_script_for_bash_parses() {
    let room = Room::new();
    let script = room.quod(&["completions", "bash"]).exits(0).out;
    room.write("quod.bash", script.as_bytes());
    room.peer("bash", &["-n", "quod.bash"]).exits(0);
}

#[test]
fn bash_completes_verbs_options_values_and_file_names() {
    let room = Room::new();
    room.create_by_peer(&["-f", "qed", "a-disk-with-a-long-name.qed", "1M"]);
    let out = typed(&room, "quod inf\t--outp\tjs\ta-di\t");
    assert!(out.contains("\"virtual-size\": 1048576"), "{out}");
}

#[test]
fn bash_goes_on_in_a_directory() {
    let room = Room::new();
    std::fs::create_dir(room.path("a directory of images")).expect("the name is free");
    room.create_by_peer(&["-f", "qed", "a directory of images/base.qed", "1M"]);
    for option in ["-b", "--backing"] {
        let keys = format!("quod create {option} a\\ dir\tba\t -F qed 'a directory of images/clone{option}'");
        let out = typed(&room, &keys.replace("'a directory of images/", "'"));
        assert!(out.contains(&format!("Formatting 'clone{option}'")), "{out}");
    }
}

#[test]
fn other_shells_get_their_scripts() {
    let room = Room::new();
    for (shell, text) in [("zsh", "#compdef quod"), ("fish", "complete -c quod"), ("elvish", "quod")] {
        room.quod(&["completions", shell]).exits(0).prints(text);
    }
    room.quod(&["completions", "tcsh"]).exits(1).tells("invalid value 'tcsh'");
}

#[test]
fn a_reader_that_goes_away_ends_completions_quietly() {
    let room = Room::new();
    let command = format!("set -o pipefail; {QUOD} completions bash | true");
    for _ in 0..10 {
        let ran = room.run("bash", &["-c", &command], "");
        assert!([Some(0), Some(141)].contains(&ran.code), "{ran:?}");
        assert_eq!(ran.err, "");
    }
}
