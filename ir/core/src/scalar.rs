//! Scalar functions and expressions: the body of an elementwise op or of a fused kernel, as data that every back end prints.

use crate::float::Float;
use crate::types::DType;
use serde::{Deserialize, Serialize};

macro_rules! functions {
    ($(#[$m:meta])* $t:ident { $($(#[$vm:meta])* $v:ident = $n:literal,)* }) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        #[serde(rename_all = "snake_case")]
        pub enum $t { $($(#[$vm])* $v,)* }
        impl $t {
            pub const ALL: &'static [$t] = &[$($t::$v),*];
            /// Also the name of the `ml` op.
            pub fn name(self) -> &'static str { match self { $($t::$v => $n),* } }
        }
    };
}

functions! {
    /// One operand, result of the same type (`IsNan`, `IsInf`: bool).
    Unary {
        Neg = "neg", Abs = "abs", Sign = "sign", Reciprocal = "reciprocal", Sqrt = "sqrt", Rsqrt = "rsqrt",
        Exp = "exp", Log = "log", Sin = "sin", Cos = "cos", Tan = "tan", Asin = "asin", Acos = "acos", Atan = "atan",
        Sinh = "sinh", Cosh = "cosh", Tanh = "tanh", Asinh = "asinh", Acosh = "acosh", Atanh = "atanh",
        Erf = "erf", Sigmoid = "sigmoid",
        Floor = "floor", Ceil = "ceil",
        /// To nearest, ties to even.
        Round = "round",
        /// Logical, on bool.
        Not = "not", BitNot = "bit_not",
        IsNan = "is_nan",
        IsInf = "is_inf",
    }
}

functions! {
    /// Two operands of one type, result of that type.
    Binary {
        Add = "add", Sub = "sub", Mul = "mul",
        /// Integers truncate towards zero.
        Div = "div",
        /// Sign of the divisor (Python).
        Mod = "mod",
        /// Sign of the dividend (C fmod).
        Rem = "rem",
        Pow = "pow",
        /// NaN if either is NaN.
        Max = "max", Min = "min",
        And = "and", Or = "or", Xor = "xor",
        BitAnd = "bit_and", BitOr = "bit_or", BitXor = "bit_xor", Shl = "shl", Shr = "shr",
    }
}

functions! {
    /// Two operands of one type, result bool. Ordered: false on NaN, but for `Ne`.
    Compare { Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge", }
}

/// One step of an [`Expr`]; operands are earlier steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The i-th input of the expression.
    Input(usize),
    /// A constant of the step's type (integers exact to 2^53).
    Const(Float),
    Unary(Unary, usize),
    Binary(Binary, usize, usize),
    Compare(Compare, usize, usize),
    Select(usize, usize, usize),
    /// To the step's type.
    Cast(usize),
}

/// A straight-line scalar program; the value is the last step. Shared subterms are steps used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Expr {
    /// Each step with the type of its result.
    pub steps: Vec<(Step, DType)>,
}

impl Expr {
    /// The expression that is its input `i`.
    pub fn input(i: usize, dtype: DType) -> Expr {
        Expr { steps: vec![(Step::Input(i), dtype)] }
    }
    /// Adds a step unless the same is there (constants by their bits); returns its index.
    pub fn push(&mut self, step: Step, dtype: DType) -> usize {
        let new = (step, dtype);
        if let Some(i) = self.steps.iter().position(|s| *s == new) {
            return i;
        }
        self.steps.push(new);
        self.steps.len() - 1
    }
    /// Type of the value; `None` if empty.
    pub fn dtype(&self) -> Option<DType> {
        self.steps.last().map(|s| s.1)
    }
    /// Whether it only passes input `i` through.
    pub fn is_input(&self, i: usize) -> bool {
        matches!(self.steps.as_slice(), [(Step::Input(j), _)] if *j == i)
    }
    /// Arithmetic operations per element (casts and constants are free).
    pub fn flops(&self) -> u64 {
        self.steps.iter().filter(|(s, _)| !matches!(s, Step::Input(_) | Step::Const(_) | Step::Cast(_))).count() as u64
    }
}
