//! Constants, weights, and ops over functions of the program: call, if.

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

fn by_context(_: &InferArgs) -> Result<Vec<TensorType>, OpError> {
    Err(OpError::new("E0902", "the type of this op comes from its context"))
}

fn by_program(_: &EvalArgs) -> Result<Vec<Tensor>, OpError> {
    Err(OpError::value("this op is evaluated with its program"))
}

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
    results: Results::Inferred,
    kind: Kind::Structure,
    tolerance: Tolerance::Exact,
    examples: &[],
    infer: by_context,
    eval: by_program,
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
    results: Results::Inferred,
    kind: Kind::Structure,
    tolerance: Tolerance::Exact,
    examples: &[],
    infer: by_context,
    eval: by_program,
};

pub static ROWS: &[&OpDef] = &[CONSTANT, WEIGHT, CALL, IF];

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
        other => Err(fault(&format!("ml.{other} has no evaluation"))),
    }
}
