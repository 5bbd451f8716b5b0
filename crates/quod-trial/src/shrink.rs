//! Makes a failing plan small.
//!
//! Role: [`shrink`] leaves requests out, halves first and then one by one, as long as some crash still breaks a law.
//!
//! Invariant: what is kept breaks the same law as before, by its sentence up to the numbers.
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

/// What a sentence says before it comes to numbers.
fn law(sentence: &str) -> &str {
    sentence.split(|letter: char| letter.is_ascii_digit()).next().unwrap_or(sentence)
}
