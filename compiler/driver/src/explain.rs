//! Explanations of a compilation: the search of equality saturation kept, and what can be asked of it.

use crate::compiler::{Compiler, Outcome, spans};
use crate::stage::Stage;
use tahoma_core::{Diagnostic, Diagnostics};
pub use tahoma_eqsat::explain::Explanation;
pub use tahoma_eqsat::replay::Check;
pub use tahoma_eqsat::why_not::WhyNot;
use tahoma_eqsat::{Options, Search, dump, explain, replay, why_not};

/// A model as far as its kernels are chosen, with all that the search found.
pub struct Explained {
    search: Search,
    options: Options<'static>,
    pub warnings: Vec<Diagnostic>,
}

impl Compiler {
    /// Imports, specialises and searches as [`Compiler::compile`] does, and keeps what was found. E0501 without a target.
    pub fn explain(&self) -> Result<Explained, Diagnostics> {
        let target = self.chosen_target()?;
        let Outcome::Program { program, warnings, .. } = self.clone().stop_after(Stage::Specialise).advance()? else {
            return Err(Diagnostic::error("E0901", "no program after specialise").into());
        };
        self.begin(Stage::Eqsat);
        let weights = spans(&program, &self.import()?.store);
        let options = Options { numerics: self.allowed(), weights, ..Options::new(target.cost()) };
        let search = tahoma_eqsat::search(&program, &options)?;
        for d in &search.report.faults {
            tracing::error!("{d}");
        }
        Ok(Explained { search, options, warnings })
    }
}

impl Explained {
    /// Every kernel, or the one of that name: the model's nodes behind it, its rules and proofs, what else was possible. E0701.
    pub fn kernels(&self, kernel: Option<&str>) -> Result<Explanation, Diagnostic> {
        explain::explain(&self.search, &self.options, kernel)
    }
    /// Why two nodes of the model are not one kernel. E0701 for a name that is not there.
    pub fn why_not(&mut self, a: &str, b: &str) -> Result<WhyNot, Diagnostic> {
        why_not::why_not(&mut self.search, &self.options, a, b)
    }
    /// The saturated e-graph as text.
    pub fn egraph_text(&self) -> String {
        dump::text(&self.search)
    }
    /// The saturated e-graph as a picture for Graphviz.
    pub fn egraph_dot(&self) -> String {
        dump::dot(&self.search)
    }
}

/// Replays every proof of an explanation on inputs drawn from `seed`; `each` is called before each with its number and how many there are.
pub fn check_proofs(e: &Explanation, seed: u64, each: &mut dyn FnMut(usize, usize)) -> Vec<Check> {
    let all: Vec<_> = e.proofs().collect();
    let check = |(i, p)| {
        each(i, all.len());
        replay::check(p, seed)
    };
    all.iter().copied().enumerate().map(check).collect()
}
