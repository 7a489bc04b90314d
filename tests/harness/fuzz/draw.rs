//! Draws from a seed, and what is drawn: numbers at the edges of every integer type, hostile strings.

use tahoma_core::random::Random;

/// Any seed is as good as any other, so a case is its number.
pub(crate) struct Draw(Random);

/// Where sizes, axes and counts go wrong.
const EDGES: &[i64] = &[
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    -17,
    64,
    255,
    1000,
    65_536,
    1 << 20,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 31,
    1 << 32,
    (1 << 32) + 1,
    1 << 40,
    1 << 62,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

const FLOATS: &[f64] =
    &[0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-310, 6.6e4, 3.5e38, 1.7e308, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 2147483648.0, -9.3e18];

impl Draw {
    pub(crate) fn new(seed: u64) -> Draw {
        Draw(Random::new(seed))
    }
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.bits()
    }
    /// A number below `n`; 0 for 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let i = self.below(all.len());
        all.get(i)
    }
    pub(crate) fn of_mut<'a, T>(&mut self, all: &'a mut [T]) -> Option<&'a mut T> {
        let i = self.below(all.len());
        all.get_mut(i)
    }
    /// An edge, or one off what is there.
    pub(crate) fn int(&mut self, near: i64) -> i64 {
        match self.below(4) {
            0 => near.wrapping_add(1),
            1 => near.wrapping_sub(1),
            _ => EDGES[self.below(EDGES.len())],
        }
    }
    pub(crate) fn float(&mut self) -> f64 {
        FLOATS[self.below(FLOATS.len())]
    }
    pub(crate) fn text(&mut self) -> String {
        let all = tahoma_core::escape::hostile();
        self.of(&all).cloned().unwrap_or_default()
    }
    /// Changes the length or an element of a list.
    pub(crate) fn list<T: Clone>(&mut self, all: &mut Vec<T>, change: impl FnOnce(&mut Draw, &mut T)) {
        let at = self.below(all.len());
        match self.below(6) {
            0 if !all.is_empty() => drop(all.remove(at)),
            1 if !all.is_empty() => all.insert(at, all[at].clone()),
            2 if all.len() > 1 => {
                let other = self.below(all.len());
                all.swap(at, other);
            }
            _ => {
                if let Some(x) = all.get_mut(at) {
                    change(self, x);
                }
            }
        }
    }
}
