//! `ml.scan`: a counted loop over state. What recurrent layers, ONNX `Scan` and counted `Loop` are.
//!
//! ```text
//! operands   carried…  sliced…  others…            results   last carried…  stacked rows…
//! body       carried…  row of each…  others…   ->            next carried…  a row of each…
//! ```

use super::structure::{STRUCTURE, stacked};
use crate::diag::Diagnostic;
use crate::eval::{Kept, Watch, Weights, run_watched};
use crate::graph::{Node, Program};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

/// Repeats a function a known number of times over state.
pub static SCAN: &OpDef = &OpDef {
    name: "scan",
    doc: "Runs function `body` `trips` times. Operands: `carried` values, then `sliced` ones of first extent `trips`, then others. Run t \
          takes the carried values, row t of each sliced one, and the others; it gives the next carried values, then rows to keep. \
          Results: the carried values after the last run, then the rows, stacked along a new first axis. `reverse` has a number for each \
          sliced operand, then for each stacked result: where it is 1, run t means row trips − 1 − t (ONNX Scan).",
    operands: &[OperandDef { name: "args", types: TypeSet::Any, variadic: true }],
    attrs: &[
        AttrDef { name: "body", ty: AttrType::Func },
        AttrDef { name: "carried", ty: AttrType::Int },
        AttrDef { name: "sliced", ty: AttrType::Int },
        AttrDef { name: "trips", ty: AttrType::Int },
        AttrDef { name: "reverse", ty: AttrType::Ints },
    ],
    ..STRUCTURE
};

/// Most runs of one scan: what a file asks for must end.
pub const MAX_TRIPS: u64 = 1 << 20;

/// What the attributes of a scan say, checked against its operands and results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanForm {
    pub body: String,
    pub trips: usize,
    pub carried: usize,
    pub sliced: usize,
    /// Results that are stacked rows.
    pub stacked: usize,
    /// Of each sliced operand, then of each stacked result: whether the last row comes first.
    pub reverse: Vec<bool>,
}

impl ScanForm {
    /// Errors: E0902 where the counts do not fit each other, E0107 for more runs than [`MAX_TRIPS`].
    pub fn of(n: &Node) -> Result<ScanForm, Diagnostic> {
        let fault = |m: String| Diagnostic::error("E0902", format!("ml.scan: {m}")).at((*n.origin).clone());
        let count = |name: &str| {
            let v = n.attrs.int(name).and_then(|k| usize::try_from(k).ok());
            v.ok_or_else(|| fault(format!("{name} must be a number from 0 up")))
        };
        let (carried, sliced, trips) = (count("carried")?, count("sliced")?, count("trips")?);
        if trips as u64 > MAX_TRIPS {
            let d = Diagnostic::error("E0107", format!("the loop runs {trips} times, more than {MAX_TRIPS}"));
            return Err(d.at((*n.origin).clone()));
        }
        if carried.checked_add(sliced).is_none_or(|k| k > n.operands.len()) || carried > n.results.len() {
            return Err(fault(format!("{carried} carried and {sliced} sliced values of {} operands", n.operands.len())));
        }
        let stacked = n.results.len() - carried;
        let reverse = n.attrs.ints("reverse").unwrap_or_default();
        if reverse.len() != sliced + stacked || reverse.iter().any(|r| !matches!(r, 0 | 1)) {
            return Err(fault(format!("reverse must have {} numbers, each 0 or 1", sliced + stacked)));
        }
        let body = n.attrs.func("body").ok_or_else(|| fault("it has no body".into()))?.to_string();
        Ok(ScanForm { body, trips, carried, sliced, stacked, reverse: reverse.iter().map(|&r| r == 1).collect() })
    }
    /// Types that the body takes, from those of the operands.
    pub fn takes(&self, operands: &[TensorType]) -> Vec<TensorType> {
        let rows = self.carried..self.carried + self.sliced;
        let one = |(i, t): (usize, &TensorType)| if rows.contains(&i) { row_type(t) } else { t.clone() };
        operands.iter().enumerate().map(one).collect()
    }
    /// Result types, from those of what the body gives.
    pub fn gives(&self, body: &[TensorType]) -> Vec<TensorType> {
        let one = |(i, t): (usize, &TensorType)| if i < self.carried { t.clone() } else { stack_type(t, self.trips) };
        body.iter().enumerate().map(one).collect()
    }
    /// The row that run `t` reads of sliced operand `i`.
    pub fn row_in(&self, i: usize, t: usize) -> usize {
        crate::artifact::row_of(self.trips, t, self.reverse[i])
    }
    /// The row that run `t` writes of stacked result `i`.
    pub fn row_out(&self, i: usize, t: usize) -> usize {
        self.row_in(self.sliced + i, t)
    }
}

/// The type of a row along the first axis.
pub fn row_type(t: &TensorType) -> TensorType {
    TensorType::new(t.dtype, Shape(t.shape.0.iter().skip(1).cloned().collect()))
}

/// The type of `trips` rows.
pub fn stack_type(t: &TensorType, trips: usize) -> TensorType {
    TensorType::new(t.dtype, Shape(std::iter::once(Dim::from(trips)).chain(t.shape.0.iter().cloned()).collect()))
}

/// Row `at` of a tensor along its first axis: a view.
pub fn row(t: &Tensor, at: usize) -> Option<Tensor> {
    let (n, step) = (*t.shape().first()?, *t.strides().first()?);
    if at >= n {
        return None;
    }
    let offset = usize::try_from(t.offset() as isize + at as isize * step).ok()?;
    Some(t.view(&t.shape()[1..], &t.strides()[1..], offset))
}

/// Evaluates `ml.scan`.
pub(super) fn run_scan(
    program: &Program,
    n: &Node,
    operands: Vec<Tensor>,
    weights: &dyn Weights,
    watch: Watch,
) -> Result<Vec<Tensor>, Diagnostic> {
    let fault = |m: &str| Diagnostic::error("E0902", format!("ml.scan: {m}")).at((*n.origin).clone());
    // The node's own operands are not at hand where a plan runs it: what counts is what came.
    let ids = (0..operands.len() as u32).map(crate::graph::ValueId).collect();
    let form = ScanForm::of(&Node { operands: ids, ..n.clone() })?;
    let body = program.functions.get(&form.body).ok_or_else(|| fault("its body is not there"))?;
    if body.inputs.len() != operands.len() || body.outputs.len() != form.carried + form.stacked {
        return Err(fault("its body and operands do not fit"));
    }
    let weights = Kept::new(weights);
    let mut operands = operands.into_iter();
    let mut values: Vec<Tensor> = operands.by_ref().take(form.carried).collect();
    let sliced: Vec<Tensor> = operands.by_ref().take(form.sliced).collect();
    let rest: Vec<Tensor> = operands.collect();
    if sliced.iter().any(|t| t.shape().first() != Some(&form.trips)) {
        return Err(fault("a sliced value has another first extent than there are runs"));
    }
    let mut stacks: Vec<Vec<Tensor>> = vec![vec![]; form.stacked];
    for t in 0..form.trips {
        let mut inputs = values;
        for (i, x) in sliced.iter().enumerate() {
            inputs.push(row(x, form.row_in(i, t)).ok_or_else(|| fault("a row is not there"))?);
        }
        inputs.extend(rest.iter().cloned());
        let mut out = run_watched(program, &form.body, inputs, &weights, watch)?.into_iter();
        values = out.by_ref().take(form.carried).collect();
        for (s, t) in stacks.iter_mut().zip(out) {
            s.push(t);
        }
    }
    for (i, mut s) in stacks.into_iter().enumerate() {
        if form.reverse[form.sliced + i] {
            s.reverse();
        }
        let ty = &body.types[body.outputs[form.carried + i].value.index()];
        values.push(stacked(s, ty, n)?);
    }
    Ok(values)
}
