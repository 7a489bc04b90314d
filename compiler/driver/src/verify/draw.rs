//! Inputs for a verification, where the caller gives none: such that what they reach can differ.
//!
//! ```text
//! index      an integer that a gather or a scatter takes: uniform over the axis it names
//! control    an integer that decides shapes, trips or choices: 0 or 1
//! bytes      other 8-bit integers: the whole range (quantised data, images)
//! integers   other integers: 0 or 1 where they become floats or bools (masks), else uniform in ±100
//! floats     uniform in [-1, 1), unless outputs then say nothing: the other draws are tried in turn
//! ```

use crate::interp::{evaluate_program, inputs_of};
use crate::random::{Range, drawn};
use crate::verify::judge::census;
use std::collections::BTreeMap;
use tahoma_core::eval::Weights;
use tahoma_core::op::{Kind, Scalar};
use tahoma_core::{DType, Diagnostic, Program, Tensor, ValueId};

/// What an input is used as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    /// Along an axis of so many.
    Index(u64),
    Control,
    /// Becomes a float or a bool.
    Mask,
    Data,
}

/// Float draws, the first first: an odd activation lives on one of them.
const FLOATS: &[(&str, Range)] = &[
    ("uniform in [-1, 1)", Range::Between(-1.0, 1.0)),
    ("uniform in [0, 1)", Range::Between(0.0, 1.0)),
    ("uniform in [-8, 8)", Range::Between(-8.0, 8.0)),
    ("uniform in [0, 255)", Range::Between(0.0, 255.0)),
];

/// Inputs and how their floats were drawn.
pub(super) struct Drawn {
    pub inputs: Vec<(String, Tensor)>,
    pub how: &'static str,
}

/// Given inputs, and the others drawn from `seed`. `program` is the model with all its shapes known. Of several draws the one on which
/// the most outputs of the model say something.
pub(super) fn draw(program: &Program, given: &[(String, Tensor)], seed: u64, weights: &dyn Weights) -> Result<Drawn, Diagnostic> {
    let uses = uses(program);
    let missing = |n: &str| given.iter().all(|g| g.0 != n);
    let make = |range: Range, plain: bool| -> Result<Vec<(String, Tensor)>, Diagnostic> {
        let mut all = given.to_vec();
        for (name, ty) in inputs_of(program).into_iter().filter(|(n, _)| missing(n)) {
            let used = uses.get(name).copied().unwrap_or(Use::Data);
            let range = match (used, ty.dtype) {
                (Use::Index(n), _) if !plain => Range::Below(n.max(1)),
                (_, d) if d.is_float() => range,
                (Use::Data | Use::Mask, DType::U8) if !plain => Range::Whole(0, 255),
                (Use::Data | Use::Mask, DType::I8) if !plain => Range::Whole(-128, 127),
                (Use::Data, d) if d.is_signed_int() && !plain && d.bits() > 8 => Range::Whole(-100, 100),
                (Use::Data, d) if d.is_int() && !plain && d.bits() > 8 => Range::Whole(0, 200),
                _ => Range::Whole(0, 1),
            };
            all.push((name.to_string(), drawn(name, ty, seed, range)?));
        }
        Ok(all)
    };
    // A model may add an offset to an index, or use integers in ways not seen here: then plain ones.
    let mut plain = false;
    let mut best: Option<(usize, Drawn)> = None;
    let floats = inputs_of(program).iter().any(|(n, t)| missing(n) && t.dtype.is_float());
    for &(how, range) in &FLOATS[..if floats { FLOATS.len() } else { 1 }] {
        let mut inputs = make(range, plain)?;
        let out = match evaluate_program(program, &inputs, weights) {
            Ok(out) => out,
            Err(d) if plain => return best.map(|b| b.1).ok_or(d),
            Err(_) => {
                plain = true;
                inputs = make(range, plain)?;
                match evaluate_program(program, &inputs, weights) {
                    Ok(out) => out,
                    Err(d) => return best.map(|b| b.1).ok_or(d),
                }
            }
        };
        let vacuous = out.iter().filter(|(_, t)| !census(t, None).vacuous.is_empty()).count();
        if best.as_ref().is_none_or(|b| vacuous < b.0) {
            best = Some((vacuous, Drawn { inputs, how: if floats { how } else { "" } }));
        }
        if vacuous == 0 {
            break;
        }
    }
    best.map(|b| b.1).ok_or_else(|| Diagnostic::error("E0901", "no draw of inputs"))
}

/// What each input is used as, followed through moves, casts and arithmetic to what takes it.
fn uses(program: &Program) -> BTreeMap<String, Use> {
    let g = program.main();
    // Inputs that a value is made of by such steps.
    let mut from: BTreeMap<ValueId, Vec<usize>> = g.inputs.iter().enumerate().map(|(i, p)| (p.value, vec![i])).collect();
    let mut found: Vec<Vec<Use>> = vec![vec![]; g.inputs.len()];
    for n in &g.nodes {
        let mut through: Vec<usize> = vec![];
        for (k, v) in n.operands.iter().enumerate() {
            let Some(sources) = from.get(v).cloned() else { continue };
            let integer = g.ty(*v).dtype.is_int();
            let used = match &n.op.kind {
                Kind::Gather | Kind::Scatter if k == 1 => Some(index_range(program, n, k)),
                Kind::Opaque | Kind::Structure | Kind::Composite(_) if integer => Some(Use::Control),
                Kind::Elementwise(Scalar::Compare(_)) if integer => Some(Use::Mask),
                Kind::Elementwise(Scalar::Cast) if integer && !n.results.iter().all(|&r| g.ty(r).dtype.is_int()) => Some(Use::Mask),
                _ => None,
            };
            sources.iter().for_each(|&s| found[s].extend(used));
            if matches!(n.op.kind, Kind::Elementwise(_) | Kind::Move(_)) {
                through.extend(sources);
            }
        }
        through.sort_unstable();
        through.dedup();
        n.results.iter().filter(|_| !through.is_empty()).for_each(|&r| {
            from.insert(r, through.clone());
        });
    }
    let chosen = |f: &Vec<Use>| {
        let indices = f.iter().filter_map(|u| if let Use::Index(n) = u { Some(*n) } else { None });
        let rank = |u: &Use| f.contains(u).then_some(*u);
        indices.min().map(Use::Index).or(rank(&Use::Control)).or(rank(&Use::Mask)).unwrap_or(Use::Data)
    };
    g.inputs.iter().zip(&found).map(|(p, f)| (p.name.clone(), chosen(f))).collect()
}

/// The extent that the indices of a gather or scatter range over: of its axis, or the least of those that tuples name.
fn index_range(program: &Program, n: &tahoma_core::Node, k: usize) -> Use {
    let g = program.main();
    let (x, i) = (g.ty(n.operands[0]), g.ty(n.operands[k]));
    let known = |d: usize| x.shape.0.get(d).and_then(|d| d.known()).unwrap_or(1);
    if let Some(a) = n.attrs.int("axis") {
        return Use::Index(known(if a < 0 { (a + x.rank() as i64).max(0) as usize } else { a as usize }));
    }
    let first = n.attrs.int("batch_dims").unwrap_or(0).max(0) as usize;
    let count = i.shape.0.last().and_then(|d| d.known()).unwrap_or(1) as usize;
    Use::Index((first..first.saturating_add(count).min(x.rank())).map(known).min().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tahoma_core::eval::NoWeights;
    use tahoma_core::{Attrs, Builder, TensorType};

    /// A table of 50 rows by an index, times a mask, beside a byte.
    fn program() -> Program {
        let mut b = Builder::new("main");
        let (ids, mask) = (b.input("ids", TensorType::known(DType::I64, &[64])), b.input("mask", TensorType::known(DType::I64, &[64])));
        let (raw, n) = (b.input("raw", TensorType::known(DType::U8, &[400])), b.input("n", TensorType::known(DType::I32, &[64])));
        let table = b.constant(Tensor::f32(&[50], (0..50).map(|i| i as f32).collect()));
        let y = b.op("gather", &[table, ids], Attrs::new().with("axis", 0i64)).unwrap();
        let m = b.op("cast", &[mask], Attrs::new().with("to", DType::F32).with("saturate", true)).unwrap();
        let y = b.op("mul", &[y, m], Attrs::new()).unwrap();
        b.output("y", y);
        let r = b.op("max", &[raw, raw], Attrs::new()).unwrap();
        b.output("raw2", r);
        let n = b.op("add", &[n, n], Attrs::new()).unwrap();
        b.output("n2", n);
        Program::new(b.finish())
    }

    #[test]
    fn integers_cover_what_they_index() {
        let d = draw(&program(), &[], 1, &NoWeights).unwrap();
        let of = |name: &str| d.inputs.iter().find(|i| i.0 == name).unwrap().1.to_f64s();
        let ids = of("ids");
        assert!(ids.iter().all(|&x| (0.0..50.0).contains(&x)) && ids.iter().any(|&x| x >= 40.0) && ids.iter().any(|&x| x < 10.0));
        assert!(of("mask").iter().all(|&x| x == 0.0 || x == 1.0));
        assert!(of("raw").iter().any(|&x| x > 200.0) && of("n").iter().any(|&x| x < -50.0));
    }

    /// relu(x − 100) is dead on small inputs: a larger draw is taken.
    #[test]
    fn a_draw_on_which_the_model_lives() {
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::known(DType::F32, &[64]));
        let c = b.constant(Tensor::f32(&[], vec![100.0]));
        let y = b.op("sub", &[x, c], Attrs::new()).unwrap();
        let y = b.op("relu", &[y], Attrs::new()).unwrap();
        b.output("y", y);
        let d = draw(&Program::new(b.finish()), &[], 1, &NoWeights).unwrap();
        assert_eq!(d.how, "uniform in [0, 255)");
    }
}
