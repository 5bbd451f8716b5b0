//! The cache against a plain model: any sequence of operations, with all invariants held after each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Slices that the budget has room for, out of [`KEYS`] on either level.
const ROOM: usize = 6;
const KEYS: u64 = 8;

#[derive(Clone, Debug)]
enum Step {
    Find(SliceKey),
    Pin(SliceKey),
    Unpin(Index),
    BeginLoad(SliceKey),
    CommitLoad(Index),
    AbandonLoad(Index),
    Commit(SliceKey),
    Publish(Index),
}

fn any_key() -> impl Strategy<Value = SliceKey> {
    (any::<bool>(), 0..KEYS).prop_map(|(is_l1, index)| if is_l1 { l1(index) } else { l2(index) })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_key().prop_map(Step::Find),
        2 => any_key().prop_map(Step::Pin),
        3 => any::<Index>().prop_map(Step::Unpin),
        4 => any_key().prop_map(Step::BeginLoad),
        3 => any::<Index>().prop_map(Step::CommitLoad),
        1 => any::<Index>().prop_map(Step::AbandonLoad),
        2 => any_key().prop_map(Step::Commit),
        1 => any::<Index>().prop_map(Step::Publish),
    ]
}

/// What the cache must be, as far as the contract says: which slice goes is the policy's own affair, so what went is
/// learned by looking, and held against who might have gone.
struct Model<'a> {
    cache: &'a TableCache,
    /// Value of each resident slice.
    here: BTreeMap<(bool, u64), u64>,
    pins: Vec<Pinned>,
    loads: Vec<Load<'a>>,
    /// Loads that another commit overtook: their slices must stay.
    stats: super::super::Stats,
    next_value: u64,
}

fn plain(key: SliceKey) -> (bool, u64) {
    (key.level == TableLevel::L1, key.index)
}

fn take<T>(from: &mut Vec<T>, at: Index) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(at.index(from.len())))
}

impl<'a> Model<'a> {
    fn new(cache: &'a TableCache) -> Self {
        let stats = cache.stats();
        Model { cache, here: BTreeMap::new(), pins: vec![], loads: vec![], stats, next_value: 2 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Find(key) => {
                let expected = self.here.get(&plain(key)).copied();
                assert_eq!(found(self.cache, key), expected);
                self.stats.hits += u64::from(expected.is_some());
            }
            Step::Pin(key) => {
                let pinned = self.cache.pin(key);
                assert_eq!(pinned.as_ref().map(|p| p.entry(0)), self.here.get(&plain(key)).copied());
                self.stats.hits += u64::from(pinned.is_some());
                self.pins.extend(pinned);
            }
            Step::Unpin(at) => drop(take(&mut self.pins, at)),
            Step::BeginLoad(key) => self.begin_load(key),
            Step::CommitLoad(at) => {
                if let Some(load) = take(&mut self.loads, at) {
                    self.stats.misses += 1;
                    self.commit(load.key(), |bytes| load.commit(FileOffset(0), bytes));
                }
            }
            Step::AbandonLoad(at) => drop(take(&mut self.loads, at)),
            Step::Commit(key) => {
                let cache = self.cache;
                self.commit(key, |bytes| cache.commit(key, FileOffset(0), bytes));
            }
            Step::Publish(at) => self.publish(at),
        }
        self.check();
    }

    fn begin_load(&mut self, key: SliceKey) {
        let is_loading = self.loads.iter().any(|load| load.key() == key);
        match self.cache.begin_load(key) {
            Begin::Resident(pinned) => {
                assert_eq!(Some(&pinned.entry(0)), self.here.get(&plain(key)));
                self.stats.hits += 1;
                self.pins.push(pinned);
            }
            Begin::Wait(_) => {
                assert!(is_loading && !self.here.contains_key(&plain(key)));
                self.stats.loads_shared += 1;
            }
            Begin::Load(load) => {
                assert!(!is_loading && !self.here.contains_key(&plain(key)));
                self.loads.push(load);
                self.learn_who_went();
            }
        }
    }

    /// Only as many go as must.
    fn learn_who_went(&mut self) {
        let (cache, gone_from) = (self.cache, self.here.len());
        self.here.retain(|&(is_l1, index), _| is_resident(cache, if is_l1 { l1(index) } else { l2(index) }));
        let gone = gone_from - self.here.len();
        let room_for_one_more = cache.pool.budget - cache.pool.arena.frame_bytes() - 64;
        assert!(gone == 0 || cache.pool.bytes() > room_for_one_more, "more went than had to");
        self.stats.evictions += gone as u64;
    }

    /// The first commit wins; only unused slices go, as many as must, and none that an unfinished load could bring back.
    fn commit(&mut self, key: SliceKey, commit: impl FnOnce(&[u8]) -> Pinned) {
        let value = self.next_value;
        self.next_value += 1;
        let pinned = commit(&bytes(value));
        // Room is made for it before it is found that another came first.
        let went = pinned.entry(0) == value;
        let first = if went { value } else { self.here[&plain(key)] };
        self.here.insert(plain(key), first);
        assert_eq!(pinned.entry(0), first);
        self.pins.push(pinned);
        self.learn_who_went();
    }

    fn publish(&mut self, at: Index) {
        if self.pins.is_empty() {
            return;
        }
        let pinned = &self.pins[at.index(self.pins.len())];
        let run = crate::cache::EntryRun { start: 0, count: 1, first: self.next_value, stride: 0 };
        pinned.publish(&run);
        self.here.insert(plain(pinned.key()), self.next_value);
        self.next_value += 1;
    }

    fn is_held(&self, key: SliceKey) -> bool {
        self.pins.iter().any(|pinned| pinned.key() == key)
    }

    fn check(&mut self) {
        let cache = self.cache;
        cache.validate();
        let keys = (0..KEYS).flat_map(|index| [l1(index), l2(index)]);
        for key in keys {
            let expected = self.here.get(&plain(key));
            let value = cache.peek(key, |slice| slice.entry(0));
            assert_eq!(value.as_ref(), expected, "{key:?}");
            assert!(expected.is_some() || !self.is_held(key), "{key:?} went while it was pinned");
        }
        assert_eq!(residents(cache), self.here.len());
        let stats = cache.stats();
        let held = |key: &SliceKey| self.is_held(*key) || self.is_overtaken(*key);
        let pins = (0..KEYS).flat_map(|index| [l1(index), l2(index)]).filter(held).count();
        assert_eq!(pinned(cache), pins);
        self.stats.bytes = stats.bytes;
        assert_eq!(stats, self.stats);
    }

    /// Whether a slice came in while another load of it is under way: it stays until that has ended.
    fn is_overtaken(&self, key: SliceKey) -> bool {
        self.here.contains_key(&plain(key)) && self.loads.iter().any(|load| load.key() == key)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_sequence_of_operations_keeps_the_contract(
        steps in prop::collection::vec(any_step(), 1..200)
    ) {
        let cache = room_for(ROOM);
        let mut model = Model::new(&cache);
        steps.into_iter().for_each(|step| model.step(step));
        drop((model.pins, model.loads));
        cache.validate();
        drop(committed(&cache, l2(KEYS), 0));
        prop_assert!(residents(&cache) <= ROOM);
        prop_assert!(cache.pool.structure.lock().unwrap().loading.is_empty());
    }
}
