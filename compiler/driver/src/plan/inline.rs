//! `main` with its branches, its loops and its calls without a kernel put in line, so that the plan sees one list of values.

use std::collections::{BTreeSet, HashMap};
use tahoma_core::graph::{Graph, Node};
use tahoma_core::ops::scan::ScanForm;
use tahoma_core::{Diagnostic, Program, TensorType, ValueId};

/// Deepest nesting of branches and calls: what the runtime takes.
const MAX_DEPTH: usize = tahoma_runtime::artifact::MAX_DEPTH;

/// Nodes that run together, by index, and the values they give.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) nodes: Vec<usize>,
    pub(super) results: Vec<ValueId>,
}

/// What a scan runs: its steps, and the values that stand for state and for rows in them.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) form: ScanForm,
    pub(super) block: Block,
    pub(super) states: Vec<ValueId>,
    pub(super) rows: Vec<ValueId>,
}

/// All nodes in an order of evaluation; those of a branch or a loop stand before the `if` or `scan` they belong to.
#[derive(Debug)]
pub(super) struct Inlined {
    pub(super) graph: Graph,
    pub(super) top: Block,
    /// Of each `if`: what runs where the condition is true, and where it is false.
    pub(super) branches: HashMap<usize, [Block; 2]>,
    /// Of each `scan` that can be planned: what it repeats.
    pub(super) loops: HashMap<usize, Steps>,
}

/// `main` and every function that an `if` or a `scan` may run.
pub(super) fn reached(program: &Program) -> Vec<&Graph> {
    let (mut out, mut seen) = (vec![program.main()], BTreeSet::new());
    let mut at = 0;
    while let Some(g) = out.get(at).copied() {
        let regions = |n: &Node| match n.op.name {
            "if" => vec!["then", "else"],
            "scan" => vec!["body"],
            _ => vec![],
        };
        for f in g.nodes.iter().flat_map(|n| regions(n).into_iter().filter_map(|b| n.attrs.func(b))) {
            if let Some((name, g)) = program.functions.get_key_value(f)
                && seen.insert(name)
            {
                out.push(g);
            }
        }
        at += 1;
    }
    out
}

/// Puts in line every branch, and every call of a function that has no kernel. Errors: E0901 for what no stage of ours makes.
pub(super) fn inline(program: &Program, has_kernel: &dyn Fn(&str) -> bool) -> Result<Inlined, Diagnostic> {
    let main = program.main();
    let mut graph = main.clone();
    graph.nodes.clear();
    let mut i = Inliner { program, has_kernel, graph, branches: HashMap::new(), loops: HashMap::new() };
    let mut same: HashMap<ValueId, ValueId> = (0..main.types.len() as u32).map(|v| (ValueId(v), ValueId(v))).collect();
    let nodes = i.nodes(main, &mut same, 0)?;
    let top = Block { nodes, results: main.outputs.iter().map(|o| o.value).collect() };
    Ok(Inlined { graph: i.graph, top, branches: i.branches, loops: i.loops })
}

struct Inliner<'a> {
    program: &'a Program,
    has_kernel: &'a dyn Fn(&str) -> bool,
    graph: Graph,
    branches: HashMap<usize, [Block; 2]>,
    loops: HashMap<usize, Steps>,
}

impl<'a> Inliner<'a> {
    /// The nodes of `g`, whose values are those of the whole by `map`.
    fn nodes(&mut self, g: &Graph, map: &mut HashMap<ValueId, ValueId>, depth: usize) -> Result<Vec<usize>, Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(super::fault(&format!("functions are nested more than {MAX_DEPTH} deep")));
        }
        let mut out = vec![];
        for n in &g.nodes {
            for r in &n.results {
                map.entry(*r).or_insert_with(|| fresh(&mut self.graph, g.ty(*r)));
            }
            let mut n = n.clone();
            n.operands.iter_mut().for_each(|v| *v = map[v]);
            n.results.iter_mut().for_each(|v| *v = map[v]);
            match (n.op.name, n.attrs.func("callee")) {
                ("call", Some(f)) if !(self.has_kernel)(f) => {
                    let g = self.function(f)?;
                    let mut inner = ports(g, &n.operands);
                    for (o, r) in g.outputs.iter().zip(&n.results) {
                        // An output that is an input, or that is given twice, would need a copy; kernels never have one.
                        if inner.insert(o.value, *r).is_some() {
                            return Err(super::fault(&format!("@{f} passes a value through")));
                        }
                    }
                    out.extend(self.nodes(g, &mut inner, depth + 1)?);
                }
                ("if", _) => {
                    let branches = [self.branch(&n, "then", depth)?, self.branch(&n, "else", depth)?];
                    self.branches.insert(self.graph.nodes.len(), branches);
                    out.push(self.push(n));
                }
                ("scan", _) if self.is_planned(&n) => {
                    let steps = self.steps(&n, depth)?;
                    self.loops.insert(self.graph.nodes.len(), steps);
                    out.push(self.push(n));
                }
                _ => out.push(self.push(n)),
            }
        }
        Ok(out)
    }
    /// Whether a scan can be a loop of the plan: every extent is known, and rows are whole bytes. Else it runs on the host.
    fn is_planned(&self, n: &Node) -> bool {
        let fits = |t: &TensorType| t.shape.is_static() && t.bytes().is_some() && t.dtype.bits().is_multiple_of(8);
        n.operands.iter().chain(&n.results).all(|&v| fits(self.graph.ty(v)))
    }
    fn steps(&mut self, n: &Node, depth: usize) -> Result<Steps, Diagnostic> {
        let form = ScanForm::of(n)?;
        let g = self.function(&form.body)?;
        let own: Vec<ValueId> = g.inputs[..form.carried + form.sliced].iter().map(|p| fresh(&mut self.graph, g.ty(p.value))).collect();
        let mut inner = ports(g, &[&own, &n.operands[own.len()..]].concat());
        let nodes = self.nodes(g, &mut inner, depth + 1)?;
        let block = Block { nodes, results: g.outputs.iter().map(|o| inner[&o.value]).collect() };
        let (states, rows) = own.split_at(form.carried);
        Ok(Steps { block, states: states.to_vec(), rows: rows.to_vec(), form })
    }
    fn push(&mut self, n: Node) -> usize {
        self.graph.nodes.push(n);
        self.graph.nodes.len() - 1
    }
    fn branch(&mut self, n: &Node, which: &str, depth: usize) -> Result<Block, Diagnostic> {
        let g = self.function(n.attrs.func(which).unwrap_or_default())?;
        let mut inner = ports(g, &n.operands[1..]);
        let nodes = self.nodes(g, &mut inner, depth + 1)?;
        Ok(Block { nodes, results: g.outputs.iter().map(|o| inner[&o.value]).collect() })
    }
    fn function(&self, name: &str) -> Result<&'a Graph, Diagnostic> {
        self.program.functions.get(name).ok_or_else(|| super::fault(&format!("no function @{name}")))
    }
}

fn fresh(g: &mut Graph, ty: &TensorType) -> ValueId {
    g.types.push(ty.clone());
    ValueId(g.types.len() as u32 - 1)
}

/// A function's inputs as the values that it is applied to.
fn ports(g: &Graph, operands: &[ValueId]) -> HashMap<ValueId, ValueId> {
    g.inputs.iter().map(|p| p.value).zip(operands.iter().copied()).collect()
}
