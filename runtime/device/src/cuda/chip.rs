//! Which card runs kernels of which target.
//!
//! ```text
//! sm_XY    compute capability X.Y and every later one      PTX is compiled forward
//! sm_XYf   X.Y and later ones of the same X
//! sm_XYa   X.Y alone
//! ```
//!
//! Source: PTX ISA, `.target`.

/// The `sm_` names that Tahoma compiles for, most special last.
pub static TARGETS: &[&str] = &["sm_80", "sm_90", "sm_120", "sm_90a", "sm_100a", "sm_103a"];

/// Compute capability of a card: (9, 0) for 9.0.
pub type Capability = (i32, i32);

/// Whether a card of that capability runs kernels for `target`; `false` also for what is no `sm_` name.
pub fn runs(target: &str, card: Capability) -> bool {
    let Some((made_for, kind)) = parse(target) else { return false };
    match kind {
        Some('a') => card == made_for,
        Some(_) => card.0 == made_for.0 && card.1 >= made_for.1,
        None => card >= made_for,
    }
}

/// Whether a card of that capability runs machine code made for `target`: of plain targets, code runs on later cards of the same major
/// version alone, where PTX is compiled forward. Source: CUDA C++ Programming Guide, binary compatibility.
pub fn runs_cubin(target: &str, card: Capability) -> bool {
    runs(target, card) && parse(target).is_some_and(|(made_for, _)| made_for.0 == card.0)
}

/// `sm_103a`: (10, 3) and `a`.
fn parse(target: &str) -> Option<(Capability, Option<char>)> {
    let rest = target.strip_prefix("sm_")?;
    let kind = rest.chars().last().filter(|c| matches!(c, 'a' | 'f'));
    let number: i32 = rest.strip_suffix(['a', 'f']).unwrap_or(rest).parse().ok().filter(|n| (10..10_000).contains(n))?;
    Some(((number / 10, number % 10), kind))
}

/// The target among `have` that fits a card best: one for it alone, else the latest before it.
pub fn best<'a>(card: Capability, have: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fits = have.into_iter().filter(|t| runs(t, card)).filter_map(|t| Some((parse(t)?, t)));
    fits.max_by_key(|((made_for, kind), _)| (kind.is_some(), *made_for)).map(|(_, t)| t)
}

/// Which cards run a target, in words.
pub fn wants(target: &str) -> String {
    match parse(target) {
        Some(((a, b), Some('a'))) => format!("compute capability {a}.{b} and no other"),
        Some(((a, b), Some(_))) => format!("compute capability {a}.{b} or a later one of {a}.x"),
        Some(((a, b), None)) => format!("compute capability {a}.{b} or later"),
        None => "no Nvidia card".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_targets_run_on_their_chip_alone() {
        for (target, yes, no) in [
            ("sm_90a", vec![(9, 0)], vec![(8, 0), (8, 9), (10, 0), (12, 0)]),
            ("sm_100a", vec![(10, 0)], vec![(9, 0), (10, 3), (12, 0)]),
            ("sm_103a", vec![(10, 3)], vec![(10, 0), (9, 0)]),
            ("sm_100f", vec![(10, 0), (10, 3)], vec![(9, 0), (11, 0), (12, 0)]),
            ("sm_80", vec![(8, 0), (8, 6), (8, 9), (9, 0), (10, 3), (12, 1)], vec![(7, 5)]),
            ("sm_120", vec![(12, 0), (12, 1)], vec![(10, 3), (9, 0)]),
            ("trn2", vec![], vec![(9, 0)]),
            ("sm_", vec![], vec![(9, 0)]),
            ("sm_a", vec![], vec![(9, 0)]),
            ("sm_99999999999999999999", vec![], vec![(9, 0)]),
        ] {
            yes.iter().for_each(|c| assert!(runs(target, *c), "{target} on {c:?}"));
            no.iter().for_each(|c| assert!(!runs(target, *c), "{target} on {c:?}"));
        }
    }

    #[test]
    fn machine_code_stays_in_its_generation() {
        assert!(runs_cubin("sm_80", (8, 9)) && runs_cubin("sm_90a", (9, 0)) && runs_cubin("sm_120", (12, 1)));
        assert!(!runs_cubin("sm_80", (9, 0)) && !runs_cubin("sm_90a", (10, 0)) && !runs_cubin("sm_100a", (10, 3)));
    }

    #[test]
    fn every_card_gets_the_best() {
        let of = |card| best(card, TARGETS.iter().copied());
        assert_eq!(of((7, 5)), None);
        for (card, target) in [
            ((8, 0), "sm_80"),
            ((8, 9), "sm_80"),
            ((9, 0), "sm_90a"),
            ((10, 0), "sm_100a"),
            ((10, 3), "sm_103a"),
            ((11, 0), "sm_90"),
            ((12, 0), "sm_120"),
            ((12, 1), "sm_120"),
        ] {
            assert_eq!(of(card), Some(target), "{card:?}");
        }
    }
}
