//! Measurements in turns.
//!
//! Role: measures everybody once a turn, and gives medians of what the turns have.
//!
//! Invariant: figures are compared with those of the same turn only. A noisy machine is now quicker and now slower, for minutes
//! each; a ratio of what was measured a moment apart hardly feels it.
//!
//! Absent on purpose: what is measured, and how.

use anyhow::{Result, ensure};

/// What was measured: of each turn, something of everybody, at their places.
pub(super) struct Turns<M>(Vec<Vec<M>>);

impl<M> Turns<M> {
    /// Lets all be measured so many times. Each time another begins, and every other time they go backwards, so that nobody
    /// always comes after the same one.
    ///
    /// # Errors
    ///
    /// That of the first measurement that failed; also when there is to be no turn, for nothing has a median then.
    pub(super) fn take<T>(turns: usize, all: &[T], mut measure: impl FnMut(&T) -> Result<M>) -> Result<Self> {
        ensure!(turns > 0, "a median needs one measurement at least");
        let turn = |turn| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.rotate_left(turn % all.len());
            if turn % 2 == 1 {
                order.reverse();
            }
            let mut measured = Vec::new();
            for place in order {
                measured.push((place, measure(&all[place])?));
            }
            measured.sort_by_key(|(place, _)| *place);
            Ok(measured.into_iter().map(|(_, measured)| measured).collect())
        };
        (0..turns).map(turn).collect::<Result<_>>().map(Turns)
    }

    /// The median of a figure that each turn gives: the middle one, or the mean of the two in the middle.
    pub(super) fn median(&self, figure: impl Fn(&[M]) -> f64) -> f64 {
        let mut sorted: Vec<f64> = self.0.iter().map(|turn| figure(turn)).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn all_have_their_turns_in_changing_order() {
        let mut order = Vec::new();
        let turns = Turns::take(4, &[1.0, 2.0, 3.0], |one| {
            order.push(*one as u8);
            Ok(one * 10.0)
        });
        let turns = turns.unwrap();
        assert_eq!(order, [1, 2, 3, 1, 3, 2, 3, 1, 2, 3, 2, 1]);
        assert_eq!(turns.0, vec![[10.0, 20.0, 30.0]; 4]);
        assert!(Turns::take(0, &[1.0], |one| Ok(*one)).is_err());
    }

    #[test]
    fn a_median_is_that_of_what_each_turn_gives() {
        let turns = |turns: &[[f64; 2]]| Turns(turns.iter().map(Vec::from).collect());
        let odd = turns(&[[3.0, 1.0], [10.0, 5.0], [2.0, 2.0]]);
        assert_eq!([odd.median(|turn| turn[0]), odd.median(|turn| turn[0] / turn[1])], [3.0, 2.0]);
        let even = turns(&[[1.0, 1.0], [4.0, 1.0], [2.0, 1.0], [3.0, 1.0]]);
        assert_eq!(even.median(|turn| turn[0]), 2.5);
    }
}
