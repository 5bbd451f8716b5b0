//! How one crash treats what no flush had covered.
//!
//! Role: each crash throws [`Odds`] first, and then one [`Survival`] for each effect by them: extremes (all, nothing,
//! all but one, a prefix) find as much as the middle does.
//!
//! Absent on purpose: durable effects, which no dice touch (`journal.rs`).

use fastrand::Rng;

/// What a crash does to one effect.
pub(crate) enum Survival {
    Whole,
    Torn,
    Lost,
}

/// How one crash treats what is uncertain. Extremes are as telling as the middle.
pub(crate) struct Odds {
    present: u32,
    torn: u32,
    pub(crate) shuffle: bool,
    /// Only this one has the other fate: all the rest survives, or nothing else does.
    odd_one: Option<usize>,
    /// From here on nothing survives.
    cut: usize,
}

impl Odds {
    pub(crate) fn throw(dice: &mut Rng, effects: usize) -> Self {
        let mut odds = Odds {
            present: [0, 100, 500, 900, 1000][dice.usize(..5)],
            torn: [0, 0, 300, 900][dice.usize(..4)],
            shuffle: dice.bool(),
            odd_one: None,
            cut: usize::MAX,
        };
        if effects > 0 {
            match dice.u32(..4) {
                0 => {
                    odds.odd_one = Some(dice.usize(..effects));
                    odds.present = if dice.u32(..4) == 0 { 0 } else { 1000 };
                }
                1 => {
                    odds.cut = dice.usize(..=effects);
                    odds.present = 1000;
                    odds.torn = 0;
                }
                _ => {}
            }
        }
        odds
    }

    pub(crate) fn survival(&self, index: usize, dice: &mut Rng) -> Survival {
        let present = match self.odd_one {
            Some(odd) if odd == index => self.present == 0,
            _ => index < self.cut && dice.u32(..1000) < self.present,
        };
        let torn = dice.u32(..1000) < self.torn || (index == self.cut && dice.bool());
        match (present, torn) {
            (true, false) => Survival::Whole,
            (false, false) => Survival::Lost,
            (_, true) if self.present == 0 && !present => Survival::Lost,
            (_, true) => Survival::Torn,
        }
    }
}
