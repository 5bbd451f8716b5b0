//! Trials are what they say they are: they replay, crash where they say, and see what is wrong.

use quod_trial::{CrashPoint, FORMS, Form, Plan, Tally, run};

#[test]
fn every_form_of_trial_breaks_no_law() {
    for (seed, form) in (1000..).zip(FORMS) {
        let mut tally = Tally::default();
        run(&Plan::new(form, seed, 2), &mut tally).unwrap_or_else(|finding| panic!("{finding}"));
        assert!(tally.distinct() > 20, "{form:?}: {tally:?}");
    }
}

#[test]
fn a_plan_replays_to_the_same_images() {
    let plan = Plan::new(Form::Dropped, 7, 2);
    let (mut one, mut other) = (Tally::default(), Tally::default());
    run(&plan, &mut one).unwrap();
    run(&plan, &mut other).unwrap();
    assert_eq!(one, other);
}

#[test]
fn a_plan_with_one_crash_examines_that_one_alone() {
    // A tick of its use: the making of the disk, and of a base of QED, counts ticks as well.
    let only = Some(CrashPoint { tick: 100, survivors: 5 });
    let (mut whole, mut part) = (Tally::default(), Tally::default());
    run(&Plan::new(Form::Mixed, 5, 1), &mut whole).unwrap();
    run(&Plan { only, ..Plan::new(Form::Mixed, 5, 1) }, &mut part).unwrap();
    assert!((1..=4).contains(&part.distinct()) && whole.distinct() > 50);
}
