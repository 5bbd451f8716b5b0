//! What valgrind wrote down: how many instructions ran at which address of which object.
//!
//! Role: reads the format of callgrind, as far as instructions by themselves need it.
//!
//! Absent on purpose: who called whom. Calls are skipped: their cost stands where it arose.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// A place in a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The program or the library.
    pub(super) object: String,
    /// Within it.
    pub(super) address: u64,
    /// The function that was entered last on the way there.
    pub(super) function: String,
}

/// Instructions by place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile(pub(super) BTreeMap<Place, u64>);

impl Profile {
    /// Reads a profile that has addresses.
    pub(super) fn read(text: &str) -> Result<Self> {
        ensure!(text.lines().any(|line| line == "positions: instr line"), "the profile has no addresses");
        let mut names = Names::default();
        let (mut object, mut function) = (String::new(), String::new());
        let mut counts = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("ob=") {
                object = names.objects.resolve(name);
            } else if let Some(name) = line.strip_prefix("fn=") {
                function = names.functions.resolve(name);
            } else if let Some(name) = line.strip_prefix("cob=") {
                names.objects.resolve(name);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                names.functions.resolve(name);
            } else if line.starts_with("calls=") {
                // What the call cost, which stands at its own places too.
                lines.next();
            } else if line.starts_with("0x") {
                let mut fields = line.split(' ');
                let address = fields.next().and_then(|word| word.strip_prefix("0x")).unwrap_or_default();
                let address = u64::from_str_radix(address, 16).with_context(|| line.to_owned())?;
                let count = fields.nth(1).and_then(|count| count.parse::<u64>().ok());
                let place = Place { object: object.clone(), address, function: function.clone() };
                *counts.entry(place).or_insert(0) += count.unwrap_or(0);
            }
        }
        Ok(Profile(counts))
    }

    /// What this one has more than another.
    pub(super) fn beyond(mut self, other: &Profile) -> Self {
        for (place, count) in &other.0 {
            if let Some(own) = self.0.get_mut(place) {
                *own = own.saturating_sub(*count);
            }
        }
        self
    }

    /// All instructions.
    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Names that stand in full where they come first, and by a number after that.
#[derive(Default)]
struct Names {
    objects: Numbered,
    functions: Numbered,
}

#[derive(Default)]
struct Numbered(BTreeMap<String, String>);

impl Numbered {
    fn resolve(&mut self, text: &str) -> String {
        let Some((number, name)) = text.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
            return text.to_owned();
        };
        if !name.is_empty() {
            self.0.insert(number.to_owned(), name.trim_start().to_owned());
        }
        self.0.get(number).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# callgrind format\npositions: instr line\nevents: Ir\n\n";

    fn told(profile: &Profile) -> Vec<String> {
        let told = |(place, count): (&Place, &u64)| {
            format!("{} {:x} {} {count}", place.object, place.address, place.function)
        };
        profile.0.iter().map(told).collect()
    }

    #[test]
    fn instructions_stand_where_they_ran_and_not_at_calls() {
        let text = format!(
            "{HEAD}ob=/quod\nfl=a.rs\nfn=read\n0x10 7 5\nfi=b.rs\n0x14 9 2\ncob=/libc\ncfi=???\ncfn=memcpy\ncalls=1 0x90 0\n\
             0x18 7 300\n0x10 7 5\n\nob=/libc\nfn=memcpy\n0x90 0 300\n"
        );
        let profile = Profile::read(&text).unwrap();
        assert_eq!(told(&profile), ["/libc 90 memcpy 300", "/quod 10 read 10", "/quod 14 read 2"]);
        assert_eq!(profile.total(), 312);
    }

    #[test]
    fn numbers_stand_for_names() {
        let text = format!(
            "{HEAD}ob=(1) /quod\nfn=(1) read\n0x10 7 5\ncfn=(2) free\ncalls=1 0x1 0\n0x1 1 1\nfn=(2)\n0x20 1 3\n"
        );
        assert_eq!(told(&Profile::read(&text).unwrap()), ["/quod 10 read 5", "/quod 20 free 3"]);
    }

    #[test]
    fn the_shorter_run_is_taken_off_the_longer() {
        let run = |count| Profile::read(&format!("{HEAD}ob=/quod\nfn=read\n0x10 7 {count}\n")).unwrap();
        assert_eq!(run(50).beyond(&run(20)), run(30));
        assert_eq!(run(20).beyond(&run(50)).total(), 0);
    }

    #[test]
    fn a_profile_without_addresses_is_refused() {
        assert!(Profile::read("positions: line\nevents: Ir\n").is_err());
    }
}
