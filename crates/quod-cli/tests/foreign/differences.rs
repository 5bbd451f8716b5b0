//! Where we and another server answer the same client otherwise, and why.
//!
//! Invariant: a difference that no row names fails, and so does a row that names no difference.

use crate::common::servers::Kind;
use crate::script::Told;

/// Lines of a step that differ for one reason: ours, and what both of the others have in its place. One of the two may be
/// missing, and is then empty.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The step; all steps that begin so with a `*` at the end.
    pub(crate) step: &'static str,
    pub(crate) why: &'static str,
    pub(crate) lines: &'static [(&'static str, &'static str)],
}

impl Difference {
    fn is_at(&self, step: &str) -> bool {
        match self.step.strip_suffix('*') {
            Some(begin) => step.starts_with(begin),
            None => step == self.step,
        }
    }
}

/// Checks that what differs is what the rows say.
///
/// # Panics
/// With every line that no row names, and every row that names none.
#[track_caller]
pub(crate) fn check(differences: &[Difference], ours: &Told, peers: &[(Kind, Told)]) {
    let mut wrong = String::new();
    for (peer, theirs) in peers {
        let mut unused: Vec<_> =
            differences.iter().flat_map(|row| row.lines.iter().map(move |line| (row, line, true))).collect();
        for ((step, ours), (_, theirs)) in ours.iter().zip(theirs) {
            for pair in differing(ours, theirs) {
                let mut listed = unused.iter_mut().filter(|(row, line, _)| row.is_at(step) && **line == pair);
                match listed.next() {
                    Some((_, _, is_unused)) => *is_unused = false,
                    None => {
                        wrong += &format!("{peer:?}, {step}\n    ours   {}\n    theirs {}\n", pair.0, pair.1)
                    }
                }
            }
        }
        for (row, line, _) in unused.iter().filter(|(_, _, is_unused)| *is_unused) {
            wrong += &format!("{peer:?}, {}: no longer so: {line:?}\n", row.step);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(differences.iter().all(|row| !row.why.is_empty()), "every row has its reason");
}

/// Lines that are on one side alone, in pairs where they name the same thing.
fn differing<'a>(ours: &'a [String], theirs: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = Vec::new();
    for (left, mut right) in hunks(ours, theirs) {
        for line in left {
            let same = right.iter().position(|other| name(other) == name(line));
            pairs.push((line.as_str(), same.map_or("", |at| right.remove(at).as_str())));
        }
        pairs.extend(right.into_iter().map(|line| ("", line.as_str())));
    }
    pairs
}

/// What a line tells of: what stands before its first colon.
fn name(line: &str) -> &str {
    line.split_once(':').map_or(line, |(name, _)| name)
}

/// The runs of lines between those of a longest common subsequence.
fn hunks<'a>(ours: &'a [String], theirs: &'a [String]) -> Vec<(Vec<&'a String>, Vec<&'a String>)> {
    let (rows, columns) = (ours.len(), theirs.len());
    // The length of the longest common subsequence of what is left from each pair of places.
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if ours[row] == theirs[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut all = vec![(Vec::new(), Vec::new())];
    while row < rows || column < columns {
        let last = all.last_mut().expect("there is one");
        if row < rows && column < columns && ours[row] == theirs[column] {
            all.push((Vec::new(), Vec::new()));
            (row, column) = (row + 1, column + 1);
        } else if column == columns || row < rows && common[row + 1][column] >= common[row][column + 1] {
            last.0.push(&ours[row]);
            row += 1;
        } else {
            last.1.push(&theirs[column]);
            column += 1;
        }
    }
    all
}

#[test]
fn unlisted_and_outdated_differences_fail() {
    let told = |lines: &[&str]| vec![("step", lines.iter().map(|&line| line.to_owned()).collect())];
    let theirs = [(Kind::QemuNbd, told(&["same", "size: 2", "gone: 1", "exit"]))];
    let ours = told(&["same", "size: 1", "exit"]);
    let row = |lines| Difference { step: "st*", why: "so it is", lines };
    check(&[row(&[("size: 1", "size: 2"), ("", "gone: 1")])], &ours, &theirs);
    let fails = |lines| std::panic::catch_unwind(|| check(&[row(lines)], &ours, &theirs)).is_err();
    assert!(fails(&[("size: 1", "size: 2")]));
    assert!(fails(&[("size: 1", "size: 2"), ("", "gone: 1"), ("other: 1", "")]));
}
