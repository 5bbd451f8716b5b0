//! The corpus, replayed without a fuzzer: what was found once is not found again, on any toolchain.

use std::fs;
use std::path::Path;

use quod_fuzz::TARGETS;

#[test]
fn every_input_of_the_corpus_keeps_the_laws_of_its_target() {
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut replayed = 0;
        for file in fs::read_dir(&directory).expect("each target has a corpus") {
            let file = file.expect("it can be listed").path();
            println!("{}", file.display());
            target(&fs::read(&file).expect("it can be read"));
            replayed += 1;
        }
        assert!(replayed > 0, "{name} has inputs");
    }
}
