//! Places in one piece of memory: the first hole that is large enough, at multiples of 256 bytes.
//!
//! The choice does not depend on how large the whole is, so that the same sequence of calls gets the same places in an arena without
//! end (which shows how much is needed: [`Arena::peak`]) and in one of just that size.

use std::collections::BTreeMap;

/// What `cuMemAlloc` promises at least, and enough for every vector access.
pub const ALIGN: u64 = 256;

/// A piece of memory in use and free parts. Units: bytes.
#[derive(Clone, Debug)]
pub struct Arena {
    /// Holes by where they start; never two side by side.
    holes: BTreeMap<u64, u64>,
    taken: BTreeMap<u64, u64>,
    peak: u64,
}

impl Arena {
    /// All of it free.
    pub fn new(bytes: u64) -> Arena {
        Arena { holes: BTreeMap::from([(0, bytes)]), taken: BTreeMap::new(), peak: 0 }
    }

    /// One that never ends.
    pub fn endless() -> Arena {
        Arena::new(u64::MAX / ALIGN * ALIGN)
    }

    /// What a block of `bytes` takes; `None` where that is no number. Empty blocks have a place of their own too.
    pub fn rounded(bytes: u64) -> Option<u64> {
        bytes.max(1).checked_next_multiple_of(ALIGN)
    }

    /// The place of a new block, or `None` where no hole holds it.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let bytes = Arena::rounded(bytes)?;
        let (&at, &hole) = self.holes.iter().find(|(_, hole)| **hole >= bytes)?;
        self.holes.remove(&at);
        if hole > bytes {
            self.holes.insert(at + bytes, hole - bytes);
        }
        self.taken.insert(at, bytes);
        self.peak = self.peak.max(at + bytes);
        Some(at)
    }

    /// Frees the block at `at`; `false` where there is none.
    pub fn give(&mut self, at: u64) -> bool {
        let Some(mut bytes) = self.taken.remove(&at) else { return false };
        let mut start = at;
        if let Some(after) = self.holes.remove(&(at + bytes)) {
            bytes += after;
        }
        if let Some((&before, &hole)) = self.holes.range(..at).next_back()
            && before + hole == at
        {
            (start, bytes) = (before, bytes + hole);
        }
        self.holes.insert(start, bytes);
        true
    }

    /// The end of the highest block that there ever was.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Whether no block is in use.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Blocks never overlap, holes are joined again, and an arena of the peak's size gives the same places.
        #[test]
        fn an_arena_of_the_peak_is_enough(calls in prop::collection::vec((any::<bool>(), 0u64..5000, any::<prop::sample::Index>()), 1..60)) {
            let mut endless = Arena::endless();
            let replay = |arena: &mut Arena| {
                let (mut live, mut places): (Vec<(u64, u64)>, Vec<u64>) = (vec![], vec![]);
                for (take, bytes, which) in &calls {
                    if *take || live.is_empty() {
                        let at = arena.take(*bytes).expect("room");
                        assert!(at.is_multiple_of(ALIGN) && live.iter().all(|(a, n)| at + bytes.max(&1) <= *a || a + n.max(&1) <= at));
                        live.push((at, *bytes));
                        places.push(at);
                    } else {
                        let (at, _) = live.remove(which.index(live.len()));
                        assert!(arena.give(at) && !arena.give(at));
                    }
                }
                live.iter().for_each(|(at, _)| assert!(arena.give(*at)));
                places
            };
            let places = replay(&mut endless);
            prop_assert!(endless.is_empty() && endless.holes.len() == 1);
            let mut exact = Arena::new(endless.peak());
            prop_assert_eq!(replay(&mut exact), places);
            prop_assert_eq!(exact.holes, BTreeMap::from([(0, endless.peak())]));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut a = Arena::new(512);
        assert_eq!((a.take(300), a.take(1), a.take(0)), (Some(0), None, None));
        assert!(a.take(u64::MAX).is_none() && !a.give(256));
        assert!(a.give(0) && a.is_empty());
        assert_eq!(a.take(0), Some(0));
    }
}
