//! Constants, weights, and ops over functions of the program: call, if, loop, scan.

use crate::diag::Diagnostic;
use crate::eval::{Watch, Weights, run_watched};
use crate::graph::{Node, Program};
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::TensorType;

fn constant_type(a: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    a.attrs.tensor("value").map(|t| vec![t.ty()]).ok_or_else(|| OpError::attr("constant needs a tensor"))
}

fn constant_value(a: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    a.attrs.tensor("value").map(|t| vec![(**t).clone()]).ok_or_else(|| OpError::attr("constant needs a tensor"))
}

/// A small constant, inline.
pub static CONSTANT: &OpDef = &OpDef {
    name: "constant",
    doc: "A small constant.",
    operands: &[],
    attrs: &[AttrDef { name: "value", ty: AttrType::Tensor }],
    results: Results::One,
    kind: Kind::Generate,
    tolerance: Tolerance::Exact,
    examples: &[],
    infer: constant_type,
    eval: constant_value,
};

pub(super) fn by_context(_: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Err(OpError::new("E0902", "the type of this op comes from its context"))
}

pub(super) fn by_program(_: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Err(OpError::value("this op is evaluated with its program"))
}

/// What ops over functions of the program have in common.
pub(super) const STRUCTURE: OpDef = OpDef {
    name: "",
    doc: "",
    operands: &[],
    attrs: &[],
    results: Results::Inferred,
    kind: Kind::Structure,
    tolerance: Tolerance::Exact,
    examples: &[],
    infer: by_context,
    eval: by_program,
};

/// A tensor of the weight store; the graph holds its type.
pub static WEIGHT: &OpDef = &OpDef {
    name: "weight",
    doc: "A tensor of the weight store, by name. Its bytes stay in the mapped file.",
    operands: &[],
    attrs: &[AttrDef { name: "name", ty: AttrType::Str }],
    results: Results::One,
    kind: Kind::Generate,
    tolerance: Tolerance::Exact,
    examples: &[],
    infer: by_context,
    eval: by_program,
};

/// Applies a function of the program.
pub static CALL: &OpDef = &OpDef {
    name: "call",
    doc: "Applies a function of the program to the operands.",
    operands: &[OperandDef { name: "args", types: TypeSet::Any, variadic: true }],
    attrs: &[AttrDef { name: "callee", ty: AttrType::Func }],
    ..STRUCTURE
};

/// Chooses between two functions of one signature.
pub static IF: &OpDef = &OpDef {
    name: "if",
    doc: "Runs function `then` on the operands after the first if the first (one bool) is true, else function `else`.",
    operands: &[
        OperandDef { name: "cond", types: TypeSet::Bool, variadic: false },
        OperandDef { name: "args", types: TypeSet::Any, variadic: true },
    ],
    attrs: &[AttrDef { name: "then", ty: AttrType::Func }, AttrDef { name: "else", ty: AttrType::Func }],
    ..STRUCTURE
};

/// Repeats a function while a condition holds.
pub static LOOP: &OpDef = &OpDef {
    name: "loop",
    doc: "Runs function `body` while the condition holds and it ran fewer than `trips` times. It takes the number of the run (from 0), the \
          condition, `carried` values and the other operands; it gives the next condition, the next carried values, and values to keep. \
          Results: the carried values after the last run, and what was kept, stacked along a new first axis.",
    operands: &[
        OperandDef { name: "trips", types: TypeSet::Any, variadic: false },
        OperandDef { name: "cond", types: TypeSet::Bool, variadic: false },
        OperandDef { name: "args", types: TypeSet::Any, variadic: true },
    ],
    attrs: &[AttrDef { name: "body", ty: AttrType::Func }, AttrDef { name: "carried", ty: AttrType::Int }],
    ..STRUCTURE
};

pub static ROWS: &[&OpDef] = &[CONSTANT, WEIGHT, CALL, IF, LOOP, super::scan::SCAN];

/// Most runs of a loop: a condition that always holds must end.
const MAX_TRIPS: i64 = 1 << 20;

/// Evaluates `ml.loop`.
fn run_loop(program: &Program, n: &Node, operands: Vec<Tensor>, weights: &dyn Weights, watch: Watch) -> Result<Vec<Tensor>, Diagnostic> {
    let fault = |m: &str| Diagnostic::error("E0902", m).at((*n.origin).clone());
    let f = n.attrs.func("body").ok_or_else(|| fault("loop without a body"))?;
    let body = program.functions.get(f).ok_or_else(|| fault("a loop's body is not there"))?;
    let carried = n.attrs.int("carried").and_then(|k| usize::try_from(k).ok()).ok_or_else(|| fault("loop without carried"))?;
    let mut operands = operands.into_iter();
    let trips = operands.next().and_then(|t| t.to_ints()).and_then(|t| t.first().copied()).ok_or_else(|| fault("loop needs trips"))?;
    let mut go = operands.next().and_then(|t| t.first_bool()).ok_or_else(|| fault("loop needs one bool"))?;
    let mut values: Vec<Tensor> = operands.by_ref().take(carried).collect();
    let rest: Vec<Tensor> = operands.collect();
    let kept = n.results.len().checked_sub(carried).ok_or_else(|| fault("loop gives fewer results than it carries"))?;
    if values.len() != carried || body.outputs.len() != 1 + carried + kept {
        return Err(fault("a loop's body and operands do not fit"));
    }
    let mut stacks: Vec<Vec<Tensor>> = vec![vec![]; kept];
    let mut i = 0;
    while go && i < trips {
        if i >= MAX_TRIPS {
            return Err(Diagnostic::error("E0107", format!("the loop runs more than {MAX_TRIPS} times")).at((*n.origin).clone()));
        }
        let mut inputs = vec![Tensor::i64(&[], vec![i]), Tensor::bool(&[], vec![true])];
        inputs.append(&mut values);
        inputs.extend(rest.iter().cloned());
        let mut out = run_watched(program, f, inputs, weights, watch)?.into_iter();
        go = out.next().and_then(|t| t.first_bool()).ok_or_else(|| fault("a loop's body must give one bool first"))?;
        values = out.by_ref().take(carried).collect();
        for (s, t) in stacks.iter_mut().zip(out) {
            s.push(t);
        }
        i += 1;
    }
    for (s, o) in stacks.into_iter().zip(&body.outputs[1 + carried..]) {
        values.push(stacked(s, &body.types[o.value.index()], n)?);
    }
    Ok(values)
}

/// Equal tensors along a new first axis; none of them have the type that the body declares, open extents being 0.
pub(super) fn stacked(all: Vec<Tensor>, ty: &TensorType, n: &Node) -> Result<Tensor, Diagnostic> {
    stack(all, ty).map_err(|e| Diagnostic::error(e.code, e.message).at((*n.origin).clone()))
}

fn stack(all: Vec<Tensor>, ty: &TensorType) -> Result<Tensor, OpError> {
    let Some(first) = all.first() else {
        let dims: Vec<usize> = std::iter::once(0).chain(ty.shape.0.iter().map(|d| d.known().unwrap_or(0) as usize)).collect();
        return Ok(Tensor::full(ty.dtype, &dims, 0.0));
    };
    let shape = [&[1], first.shape()].concat();
    if let Some(t) = all.iter().find(|t| t.shape() != first.shape()) {
        return Err(OpError::shape(format!("a loop keeps {} after {}", t.ty(), first.ty())));
    }
    let rows: Vec<Tensor> = all
        .iter()
        .map(|t| {
            let t = t.contiguous();
            let strides: Vec<isize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product::<usize>() as isize).collect();
            t.view(&shape, &strides, t.offset())
        })
        .collect();
    let concat = super::find("concat").ok_or_else(|| OpError::value("the op table has no concat"))?;
    let attrs = crate::attr::Attrs::new().with("axis", 0);
    (concat.eval)(&EvalArgs { operands: &rows, attrs: &attrs })?.pop().ok_or_else(|| OpError::value("concat gave nothing"))
}

/// Evaluates a structure op within its program.
pub fn eval(program: &Program, n: &Node, operands: Vec<Tensor>, weights: &dyn Weights, watch: Watch) -> Result<Vec<Tensor>, Diagnostic> {
    let fault = |m: &str| Diagnostic::error("E0902", m).at((*n.origin).clone());
    match n.op.name {
        "call" => {
            let f = n.attrs.func("callee").ok_or_else(|| fault("call without a callee"))?;
            run_watched(program, f, operands, weights, watch)
        }
        "if" => {
            let mut operands = operands.into_iter();
            let cond = operands.next().and_then(|t| t.first_bool()).ok_or_else(|| fault("if needs one bool"))?;
            let f = n.attrs.func(if cond { "then" } else { "else" }).ok_or_else(|| fault("if without a branch"))?;
            run_watched(program, f, operands.collect(), weights, watch)
        }
        "loop" => run_loop(program, n, operands, weights, watch),
        "scan" => super::scan::run_scan(program, n, operands, weights, watch),
        other => Err(fault(&format!("ml.{other} has no evaluation"))),
    }
}
