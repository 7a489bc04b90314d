//! Numbers drawn from a seed, the same on every machine and in every run: what a model's missing inputs, samples of rules and tests are
//! made of. Not for secrets.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014): a counter that goes up by
//! an odd constant, put through a mixer. Every seed is as good as any other, also 0, 1, 2, …

/// What the counter goes up by: 2⁶⁴ over the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random(u64);

/// The first number that a generator with that seed gives: a hash in which every bit depends on every bit of `x`.
pub fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(STEP);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let all = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        all
    }
    /// A number below `n`; 0 for 0. The bias of the remainder is below `n`/2⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// One of them.
    ///
    /// # Panics
    /// Where there is none.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Uniform in [-1, 1), a multiple of 2⁻⁵².
    pub fn signed(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of Vigna's splitmix64.c for two seeds.
    #[test]
    fn it_is_splitmix64() {
        let first = |seed| {
            let mut r = Random::new(seed);
            [r.bits(), r.bits(), r.bits()]
        };
        assert_eq!(first(0), [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert_eq!(first(1_234_567), [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_all_of_them() {
        let mut r = Random::new(u64::MAX);
        assert_eq!((r.below(0), r.below(1), *r.of(&[7])), (0, 0, 7));
        let (mut seen, mut low, mut high) = ([0; 10], 1f64, -1f64);
        for _ in 0..10_000 {
            seen[r.below(10)] += 1;
            let (u, s) = (r.unit(), r.signed());
            assert!((0.0..1.0).contains(&u) && (-1.0..1.0).contains(&s));
            (low, high) = (low.min(s), high.max(s));
        }
        // 1,000 are expected; five standard deviations are 150.
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert!(low < -0.99 && high > 0.99);
    }
}
