//! What searches found, kept whole: what explanations, dumps and proofs are made of.
//!
//! A [`Search`] has a [`Unit`] for each stretch of the program that was searched by itself: all of a small program, the layers of a deep
//! one, the branches of an `if`. Equal layers are one unit with several [`Block`]s.

use crate::extract::dag::{self, DagWay, Problem};
use crate::extract::{Choice, reached};
use crate::facts::EGraph;
use crate::kernel::Candidate;
use crate::net::{Net, Way, What};
use crate::{Options, Report};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tahoma_core::{Diagnostic, Origin, Program};

/// Class visits of the search around a forced way: it starts from the chosen program, so little is left to find.
const STEPS: u64 = 200_000;

/// One launch of the chosen program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub kernel: String,
    /// Classes of the net that it makes: one, or several where small kernels became one launch.
    pub classes: Vec<u32>,
}

/// What things are called in one of several equal stretches.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Nodes of the searched stretch, as they are named here; those not in it keep their names.
    pub names: HashMap<Origin, Origin>,
    /// Weights by their place in the stretch; empty where they have their own names.
    pub weights: Vec<String>,
    /// The stretch's inputs, in order.
    pub inputs: Vec<String>,
}

impl Block {
    pub fn origin<'a>(&'a self, o: &'a Origin) -> &'a Origin {
        self.names.get(o).unwrap_or(o)
    }
    pub(crate) fn weight<'a>(&'a self, name: &'a str) -> &'a str {
        name.parse().ok().and_then(|i: usize| self.weights.get(i)).map_or(name, String::as_str)
    }
    pub(crate) fn input(&self, i: usize, name: &str) -> String {
        self.inputs.get(i).cloned().unwrap_or_else(|| format!("input {name:?}"))
    }
}

/// A search of one graph with everything that was found.
pub struct Searched {
    /// The graph is its `main`.
    pub source: Program,
    pub report: Report,
    pub egraph: EGraph,
    pub net: Net,
    pub choice: Choice,
    /// Whether `net` is that of the saturated e-graph, and not of the source alone.
    pub saturated: bool,
    /// The class of the net that each value of the source's `main` is in.
    pub values: Vec<Option<u32>>,
    pub calls: Vec<Call>,
    /// What its nodes, weights and inputs are called.
    pub view: Block,
}

/// A stretch of a program that was searched by itself.
pub struct Unit {
    /// The function it is a part of: `main`, or a branch of an `if`.
    pub function: String,
    pub searched: Searched,
    /// The equal stretches, in order; the first is the one that was searched.
    pub blocks: Vec<Block>,
}

/// A program as [`crate::optimize`] makes it, with all that was found.
pub struct Search {
    pub program: Program,
    pub report: Report,
    pub units: Vec<Unit>,
}

/// What [`crate::optimize`] does, with everything kept. Proofs are made on request, by [`crate::proof`] and [`crate::explain`].
pub fn search(program: &Program, options: &Options) -> Result<Search, Diagnostic> {
    let mut units = vec![];
    let (program, report) =
        crate::optimize_all(program, &Options { proofs: false, weights: options.weights.clone(), ..*options }, Some(&mut units))?;
    Ok(Search { program, report, units })
}

impl Search {
    /// Names of the kernels, in order of their first call.
    pub fn kernels(&self) -> Vec<&str> {
        let mut out: Vec<&str> = vec![];
        for c in self.units.iter().flat_map(|u| &u.searched.calls) {
            if !out.contains(&&*c.kernel) {
                out.push(&c.kernel);
            }
        }
        out
    }
}

impl Unit {
    /// Kernels that were given other names.
    pub(crate) fn rename(&mut self, to: &BTreeMap<String, String>) {
        for c in &mut self.searched.calls {
            if let Some(name) = to.get(&c.kernel) {
                c.kernel.clone_from(name);
            }
        }
    }
    /// What it is, for people: where a program has more than one.
    pub fn title(&self) -> String {
        let ops = self.searched.source.main().nodes.iter().filter(|n| !matches!(n.op.name, "weight" | "constant")).count();
        let times = if self.blocks.len() > 1 { format!(", {} equal stretches searched once", self.blocks.len()) } else { String::new() };
        format!("{} ops of @{}{times}", ops, tahoma_core::escape::Line::of(&self.function))
    }
}

impl Searched {
    /// The kernel that makes a class of the chosen program.
    pub fn kernel_of(&self, class: u32) -> Option<&str> {
        self.calls.iter().find(|c| c.classes.contains(&class)).map(|c| &*c.kernel)
    }
    pub(crate) fn chosen(&self, class: u32) -> &Way {
        &self.net.classes[class as usize].ways[self.choice.way[class as usize] as usize]
    }
    pub(crate) fn candidate(&self, class: u32) -> Option<&Candidate> {
        if let What::Kernel(k) = &self.chosen(class).what { Some(k) } else { None }
    }
    /// Every class that the chosen program makes.
    pub(crate) fn live(&self) -> Vec<u32> {
        reached(&self.net, &self.choice.way)
    }
    /// The least time found of all launches in which `class` is made by `way`. `None` if that would be a cycle.
    pub(crate) fn forced(&self, class: u32, way: &Way) -> Option<f64> {
        if way.needs.iter().any(|&k| k >= class) {
            return None;
        }
        let one = |w: &Way| DagWay { cost: w.ns, needs: w.needs.clone() };
        let mut classes: Vec<Vec<DagWay>> = self.net.classes.iter().map(|c| c.ways.iter().map(one).collect()).collect();
        classes[class as usize] = vec![one(way)];
        let mut seed = self.choice.way.clone();
        seed[class as usize] = 0;
        // Asked for like an output: else the rest would go around it.
        let roots = self.net.roots.iter().copied().chain([class]).collect();
        Some(dag::improve(&Problem { classes, roots }, seed, STEPS, &|| false).cost)
    }
}

/// Launches of the emitted program in order: kernels that were joined are one.
pub(crate) fn calls(program: &Program, made: &[(u32, tahoma_core::ValueId)]) -> Vec<Call> {
    let calls = program.main().nodes.iter().filter_map(|n| Some((n, n.attrs.func("callee")?)));
    calls
        .map(|(n, kernel)| {
            let classes = made.iter().filter(|(_, v)| n.results.contains(v)).map(|m| m.0).collect();
            Call { kernel: kernel.to_string(), classes }
        })
        .filter(|c: &Call| !c.classes.is_empty())
        .collect()
}

/// Names of the leaves of some nodes' origins, as those of other nodes.
pub(crate) fn leaf_names<'a>(pairs: impl Iterator<Item = (&'a Arc<Origin>, &'a Arc<Origin>)>) -> HashMap<Origin, Origin> {
    pairs.flat_map(|(a, b)| a.leaves().into_iter().zip(b.leaves()).map(|(a, b)| (a.clone(), b.clone()))).collect()
}
