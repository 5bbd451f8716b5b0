//! Makes a failing plan small.
//!
//! Role: [`shrink`] leaves requests out, halves first and then one by one, as long as some crash still breaks a law.
//!
//! Invariant: what is kept breaks the same law as before, by the words of its sentence.
//!
//! Absent on purpose: simpler requests, and other seeds: what is left out already changes what runs when.

use crate::form::Form;
use crate::plan::{Kept, Plan};
use crate::tally::Tally;
use crate::trial::{Finding, run};

/// Runs at most.
const TRIES: u32 = 400;

/// The smallest plan found that still breaks the same law, and how. `told` hears of each success.
pub fn shrink(finding: Finding, mut told: impl FnMut(&Finding)) -> Finding {
    let mut smallest = finding;
    let mut kept = match &smallest.plan.kept {
        Some(kept) => kept.0.clone(),
        None => (0..requests(smallest.plan.form, smallest.plan.seed)).collect(),
    };
    let mut tries = TRIES;
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        let mut shrunk = false;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + chunk).min(kept.len()));
            if tries == 0 {
                return smallest;
            }
            tries -= 1;
            match fails(&smallest, &fewer) {
                Some(finding) => {
                    told(&finding);
                    (smallest, kept, shrunk) = (*finding, fewer, true);
                }
                None => at += chunk,
            }
        }
        if !shrunk || chunk > 1 {
            chunk /= 2;
        }
    }
    smallest
}

fn requests(form: Form, seed: u64) -> usize {
    form.lives(&form.case(seed)).iter().map(|life| life.asked.len()).sum()
}

/// Whether the same law is broken still: by a crash, where it was by a crash.
fn fails(finding: &Finding, kept: &[usize]) -> Option<Box<Finding>> {
    let Finding { plan, sentence, .. } = finding;
    let choices = if plan.only.is_some() { plan.choices } else { 0 };
    let fewer = Plan { kept: Some(Kept(kept.to_vec())), only: None, choices, ..plan.clone() };
    let found = run(&fewer, &mut Tally::default()).err()?;
    (law(&found.sentence) == law(sentence)).then_some(found)
}

/// The law that a sentence names: what is left of it without numbers, and without what a sector holds and might hold.
fn law(sentence: &str) -> String {
    let told = sentence.split_once(": it holds").map_or(sentence, |(told, _)| told);
    let is_number = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
    told.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty() && !is_number(word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_is_known_by_its_words_alone() {
        let foreign = "after a crash: sector 0x1e00 is Foreign: it holds bytes of 0x200, write 3 from 0; allowed: zeroes";
        let elsewhere =
            "after a crash: sector 0x200 is Foreign: it holds bytes of 0, write 12 from 0; allowed: write 4";
        let stale = "after a crash: sector 0x1e00 is Stale: it holds write 3 from 0; allowed: zeroes from 0";
        assert_eq!(law(foreign), law(elsewhere));
        assert_ne!(law(foreign), law(stale));
        let nested =
            "after a crash, crash at tick 12 with survivors 3: sector 0xe00 is Stale: it holds zeroes";
        let deeper =
            "after a crash, crash at tick 8 with survivors 77: sector 0xe00 is Torn: it holds zeroes";
        assert_ne!(law(nested), law(deeper));
        assert_ne!(law(nested), law(stale), "the first crash, and one that follows it");
    }
}
