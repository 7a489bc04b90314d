//! The walk over a model's graphs: inputs, initialisers, nodes in dependency order, outputs; names to values, faults to diagnostics.

use super::ImportOptions;
use super::attrs::NodeAttrs;
use super::context::{Context, formal, over_budget};
use super::extent::{Extent, extents, tensor_type};
use super::frame::{Binding, Frame, Scope, Slot, lookup};
use super::ops::{self, Import, Row};
use super::order::order;
use super::prepass::{self, spelled};
use super::schema::{self, Schema};
use super::text::{self, Words};
use crate::Imported;
use crate::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, type_proto};
use crate::store::Store;
use crate::tensor_proto::{self, RawTensor};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tahoma_core::graph::FOLD_ELEMENTS;
use tahoma_core::near;
use tahoma_core::{Builder, Diagnostic, Diagnostics, Dim, Graph, OpError, Origin, Program, Shape, TensorType, ValueId};

/// Constants of any number type up to this many elements are kept inline.
const INLINE_ELEMENTS: usize = 16;

/// Names that unknown ones are compared with, all together: a model with more faults is told of them without suggestions.
const MOST_COMPARED: usize = 1_000_000;

/// Source of a function's argument that the call left out.
const ABSENT: &str = "absent argument";

pub(super) struct Importer<'m> {
    pub(super) name: Arc<str>,
    pub(super) model: &'m ModelProto,
    pub(super) options: &'m ImportOptions,
    pub(super) frames: Vec<Frame<'m>>,
    pub(super) store: Store,
    /// Folder for external data.
    pub(super) base: Option<PathBuf>,
    pub(super) diags: Diagnostics,
    /// Where each of them is, by all it says: each is told once.
    told: HashMap<String, usize>,
    /// Names that unknown ones were compared with, to say which was meant.
    compared: usize,
    pub(super) functions: BTreeMap<String, Graph>,
    pub(super) words: Words,
    local: HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    nodes: usize,
    depth: usize,
    undefined: BTreeSet<String>,
    over_budget: bool,
    fresh: usize,
    random: u32,
}

impl<'m> Importer<'m> {
    pub(super) fn new(name: &str, model: &'m ModelProto, options: &'m ImportOptions) -> Importer<'m> {
        let local = model.functions.iter().map(|f| ((schema::domain(f.domain()), f.name(), f.overload()), f)).collect();
        Importer {
            name: name.into(),
            model,
            options,
            frames: vec![],
            store: Store::default(),
            base: None,
            diags: Diagnostics::default(),
            told: HashMap::new(),
            compared: 0,
            functions: BTreeMap::new(),
            words: Words::default(),
            local,
            nodes: 0,
            depth: 0,
            undefined: BTreeSet::new(),
            over_budget: false,
            fresh: 0,
            random: 0,
        }
    }
    /// The function being built. There is one from `run` on.
    pub(super) fn frame(&mut self) -> &mut Frame<'m> {
        if self.frames.is_empty() {
            self.frames.push(Frame::new(Program::MAIN));
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }
    pub(super) fn builder(&mut self) -> &mut Builder {
        &mut self.frame().builder
    }
    pub(super) fn builder_ref(&self) -> &Builder {
        &self.frames[self.frames.len() - 1].builder
    }
    pub(super) fn scope(&mut self) -> &mut Scope<'m> {
        let frame = self.frame();
        if frame.scopes.is_empty() {
            frame.scopes.push(Scope::default());
        }
        let last = frame.scopes.len() - 1;
        &mut frame.scopes[last]
    }

    /// A name for a new function of the program.
    pub(super) fn fresh_name(&mut self, what: &str) -> String {
        self.fresh += 1;
        format!("{what}{}", self.fresh)
    }

    /// The seed of a random node that names none.
    pub(super) fn next_random(&mut self) -> u32 {
        self.random += 1;
        self.random - 1
    }

    /// How many random nodes without a seed there were so far.
    pub(super) fn random_drawn(&self) -> u32 {
        self.random
    }
    pub(super) fn set_random_drawn(&mut self, n: u32) {
        self.random = n;
    }

    pub(super) fn run(mut self) -> Result<Imported, Diagnostics> {
        let model = self.model;
        prepass::check(model, &self.name, &mut self.diags);
        let Some(graph) = &model.graph else {
            return Err(Diagnostic::error("E0102", format!("{} holds no graph", self.name)).into());
        };
        if !model.training_info.is_empty() {
            self.warn("E0201", "the model's training information is not imported, only its inference graph");
        }
        let mut scope = Scope { opsets: Rc::new(prepass::opsets_of(model)), ..Scope::default() };
        scope.within = "".into();
        self.frame().scopes.push(scope);
        self.initializers(graph);
        self.inputs(graph);
        self.walk(&graph.node);
        if graph.output.is_empty() {
            self.fault(Diagnostic::error("E0202", "the graph has no outputs"));
        }
        for o in &graph.output {
            self.output(o);
        }
        let name = self.name.to_string();
        let Some(frame) = self.frames.pop() else {
            return Err(Diagnostic::error("E0901", "the import lost its frame").into());
        };
        let mut program = Program::new(frame.builder.finish());
        program.functions.append(&mut self.functions);
        let (errors, warnings) = self.diags.0.into_iter().partition(|d| d.severity == tahoma_core::Severity::Error);
        Diagnostics(errors).into_result(())?;
        let used: BTreeSet<&str> = program
            .functions
            .values()
            .flat_map(|g| &g.nodes)
            .filter(|n| n.op.name == "weight")
            .filter_map(|n| n.attrs.str("name"))
            .collect();
        self.store.retain(|n| used.contains(n));
        Ok(Imported { program, store: self.store, model_name: name, vocabulary: self.words.finish(), warnings })
    }

    pub(super) fn warn(&mut self, code: &str, message: impl Into<String>) {
        self.tell(Diagnostic::warning(code, message));
    }
    pub(super) fn tell(&mut self, d: Diagnostic) {
        if let Entry::Vacant(e) = self.told.entry(format!("{d:?}")) {
            e.insert(self.diags.0.len());
            self.diags.push(d);
        }
    }
    /// Takes back all but the first `count`.
    pub(super) fn untell(&mut self, count: usize) {
        if count < self.diags.0.len() {
            self.diags.0.truncate(count);
            self.told.retain(|_, at| *at < count);
        }
    }
    /// Records a fault that belongs to no node, or to the one its origin names.
    pub(super) fn fault(&mut self, d: Diagnostic) {
        let d = if d.origin == Origin::Unknown { d.at(Origin::Tensor { model: self.name.clone(), name: "graph".into() }) } else { d };
        self.tell(d);
    }
    fn tensor_origin(&self, name: &str) -> Origin {
        Origin::Tensor { model: self.name.clone(), name: name.into() }
    }

    pub(super) fn bind(&mut self, name: &str, slot: Slot, source: &str) {
        if !name.is_empty() {
            self.scope().names.insert(name.to_string(), Binding { slot, source: source.into() });
        }
    }

    pub(super) fn initializers(&mut self, graph: &'m GraphProto) {
        for t in &graph.initializer {
            if self.options.constants.contains_key(t.name()) && self.frames.len() == 1 && self.frame().scopes.len() == 1 {
                continue;
            }
            if self.scope().names.contains_key(t.name()) {
                let d = Diagnostic::error("E0202", format!("initializer {:?} is given twice", t.name()));
                self.fault(d.at(self.tensor_origin(t.name())));
                continue;
            }
            let slot = match self.tensor(t, t.name()) {
                Ok(slot) => slot,
                Err(d) => {
                    let origin = self.tensor_origin(t.name());
                    self.fault(if d.origin == Origin::Unknown { d.at(origin) } else { d });
                    Slot::Unknown
                }
            };
            self.bind(t.name(), slot, "initializer");
        }
        for s in &graph.sparse_initializer {
            let name = s.values.as_ref().map(|v| v.name().to_string()).unwrap_or_default();
            let d = Diagnostic::error("E0201", format!("sparse initializer {name:?} is not supported")).note("store it as a dense tensor");
            self.fault(d.at(self.tensor_origin(&name)));
            self.bind(&name, Slot::Unknown, "initializer");
        }
    }

    /// A tensor of the file: a constant where it is small, else a weight.
    pub(super) fn tensor(&mut self, t: &TensorProto, name: &str) -> Result<Slot, Diagnostic> {
        let what = if name.is_empty() { "tensor".to_string() } else { format!("tensor {name:?}") };
        if t.data_type() == text::STRING {
            let strings = text::read(t, &what, self.options.budget.elements)?;
            return Ok(self.text_value(&strings));
        }
        let raw = tensor_proto::read(t, &what, self.base.as_deref(), &mut self.store, &self.options.budget)?;
        self.raw_value(raw, name)
    }
    pub(super) fn raw_value(&mut self, raw: RawTensor, name: &str) -> Result<Slot, Diagnostic> {
        let limit = if raw.dtype.is_float() { INLINE_ELEMENTS } else { FOLD_ELEMENTS };
        if raw.len() <= limit {
            let t = raw.tensor()?;
            return Ok(Slot::Value(self.builder().constant(t)));
        }
        Ok(Slot::Value(self.weight(raw, if name.is_empty() { "constant" } else { name })))
    }
    /// A tensor as a weight of this name, or one like it that is free.
    pub(super) fn weight(&mut self, raw: RawTensor, name: &str) -> ValueId {
        let ty = TensorType::known(raw.dtype, &raw.dims);
        let key = self.store.insert(name, raw.dtype, raw.dims, raw.bytes);
        let v = self.builder().weight(&key, ty);
        self.frame().weights.insert(v, key);
        v
    }

    fn inputs(&mut self, graph: &'m GraphProto) {
        let options = self.options;
        let names: Vec<&str> = graph.input.iter().map(|i| i.name()).collect();
        for (given, code) in given_names(options) {
            // Elements of a sequence are `name.0`, `name.1`, …
            let element = |i: &ValueInfoProto| {
                tensor_type(i).is_none()
                    && given.strip_prefix(i.name()).and_then(|g| g.strip_prefix('.')).is_some_and(|k| k.parse::<usize>().is_ok())
            };
            if !names.contains(&given.as_str()) && !graph.initializer.iter().any(|t| t.name() == given) && !graph.input.iter().any(element)
            {
                let mut d = Diagnostic::error(code, format!("the model has no input {given:?}"));
                d.notes = near::notes(given, "inputs", names.iter().copied());
                self.fault(d);
            }
        }
        self.check_symbols(graph);
        let symbols = self.symbols(graph);
        let mut seen: Vec<&str> = Vec::new();
        for i in &graph.input {
            let name = i.name();
            if seen.contains(&name) {
                let d = Diagnostic::error("E0202", format!("graph input {name:?} is given twice")).at(self.tensor_origin(name));
                self.fault(d);
                continue;
            }
            seen.push(name);
            if self.scope().names.contains_key(name) {
                // An initialiser that is also an input is a default (IR below 4 lists all of them so); the default is what we compile.
                if options.shapes.contains_key(name) {
                    self.warn("E0207", format!("input {name:?} has a default value, so its shape stays as it is"));
                }
                continue;
            }
            let slot = match self.input(i, &symbols) {
                Ok(slot) => slot,
                Err(d) => {
                    let origin = self.tensor_origin(name);
                    self.fault(d.at(origin));
                    Slot::Unknown
                }
            };
            self.bind(name, slot, "graph input");
        }
    }

    /// Numbers for named dimensions: as given, or by the shapes given for inputs that use them.
    fn symbols(&mut self, graph: &GraphProto) -> BTreeMap<String, u64> {
        let mut symbols = self.options.symbols.clone();
        for i in &graph.input {
            let given: Option<Vec<Option<u64>>> = match (self.options.shapes.get(i.name()), self.options.constants.get(i.name())) {
                (_, Some(t)) => Some(t.shape().iter().map(|&n| Some(n as u64)).collect()),
                (Some(s), None) => Some(s.iter().map(Dim::known).collect()),
                _ => None,
            };
            let (Some(given), Some((_, Some(dims)))) = (given, tensor_type(i)) else { continue };
            for (d, n) in dims.iter().zip(given) {
                if let (Some(Extent::Named(s)), Some(n)) = (d, n) {
                    symbols.entry(s.clone()).or_insert(n);
                }
            }
        }
        symbols
    }

    fn input(&mut self, i: &ValueInfoProto, symbols: &BTreeMap<String, u64>) -> Result<Slot, Diagnostic> {
        let Some(ty) = &i.r#type else {
            return Err(Diagnostic::error("E0202", format!("graph input {:?} has no type", i.name())));
        };
        self.input_of(i.name(), ty, symbols)
    }

    /// An input of any kind. A sequence has as many elements as are given, each an input of its own; an optional holds what is given.
    fn input_of(&mut self, name: &str, ty: &TypeProto, symbols: &BTreeMap<String, u64>) -> Result<Slot, Diagnostic> {
        let options = self.options;
        let given = |name: &str| options.shapes.contains_key(name) || options.constants.contains_key(name);
        let count = (0..).take_while(|k| given(&format!("{name}.{k}"))).count();
        let open = |what: &str, remedy: String| {
            Diagnostic::error("E0209", format!("graph input {name:?} is {what}: what it holds decides the computation")).note(remedy)
        };
        match &ty.value {
            Some(type_proto::Value::SequenceType(s)) => {
                let Some(element) = s.elem_type.as_deref() else {
                    return Err(Diagnostic::error("E0202", format!("graph input {name:?} is a sequence of nothing")));
                };
                if count == 0 && !options.complete {
                    return Err(open("a sequence", format!("give its elements as {name}.0, {name}.1, …")));
                }
                let mut values = vec![];
                for k in 0..count {
                    match self.input_of(&format!("{name}.{k}"), element, symbols)? {
                        Slot::Value(v) => values.push(v),
                        _ => return Err(Diagnostic::error("E0204", format!("graph input {name:?} is a sequence of other than tensors"))),
                    }
                }
                Ok(Slot::Sequence(values))
            }
            Some(type_proto::Value::OptionalType(o)) => {
                let Some(inner) = o.elem_type.as_deref() else {
                    return Err(Diagnostic::error("E0202", format!("graph input {name:?} is an optional of nothing")));
                };
                if given(name) || count > 0 {
                    return Ok(Slot::Optional(Some(Box::new(self.input_of(name, inner, symbols)?))));
                }
                if !options.complete {
                    return Err(open("an optional", format!("give it as {name}, or leave it out of a complete set of inputs")));
                }
                Ok(Slot::Optional(None))
            }
            _ => self.tensor_input(name, ty, symbols),
        }
    }

    fn tensor_input(&mut self, name: &str, ty: &TypeProto, symbols: &BTreeMap<String, u64>) -> Result<Slot, Diagnostic> {
        let Some((elem, declared)) = extents(ty) else {
            let d = Diagnostic::error("E0204", format!("graph input {name:?} is not a tensor"));
            return Err(d.note("sequences and optionals of tensors are known, maps and sparse tensors are not"));
        };
        if elem == text::STRING {
            return self.text_input(name);
        }
        let dtype = tensor_proto::dtype(elem).map_err(|why| Diagnostic::error("E0204", format!("graph input {name:?}: {why}")))?;
        let clash = |given: String, declared: &[Option<Extent>]| {
            let shown: Vec<String> = declared.iter().map(|d| d.as_ref().map_or("?".into(), Extent::show)).collect();
            Diagnostic::error("E0207", format!("input {name:?} cannot have shape [{given}]: the model declares [{}]", shown.join(", ")))
        };
        let fits = |given: &[Option<u64>], declared: &[Option<Extent>]| {
            let same = |(g, d): (&Option<u64>, &Option<Extent>)| match (g, d) {
                (Some(n), Some(Extent::Number(m))) => n == m,
                _ => true,
            };
            given.len() == declared.len() && given.iter().zip(declared).all(same)
        };
        if let Some(t) = self.options.constants.get(name) {
            if t.dtype() != dtype {
                return Err(Diagnostic::error("E0602", format!("input {name:?} is {dtype}, the value given is {}", t.dtype())));
            }
            let given: Vec<Option<u64>> = t.shape().iter().map(|&n| Some(n as u64)).collect();
            if let Some(declared) = &declared
                && !fits(&given, declared)
            {
                return Err(clash(t.shape().iter().map(|n| n.to_string()).collect::<Vec<_>>().join(", "), declared));
            }
            return Ok(Slot::Value(self.builder().constant(t.clone())));
        }
        let dims: Vec<Dim> = match (self.options.shapes.get(name), declared) {
            (Some(given), declared) => {
                let numbers: Vec<Option<u64>> = given.iter().map(Dim::known).collect();
                if let Some(declared) = declared
                    && !fits(&numbers, &declared)
                {
                    return Err(clash(given.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", "), &declared));
                }
                given.clone()
            }
            (None, Some(declared)) => declared
                .into_iter()
                .enumerate()
                .map(|(k, d)| match d {
                    Some(Extent::Number(n)) => Dim::Known(n),
                    Some(Extent::Named(s)) => symbols.get(&s).map_or_else(|| Dim::sym(&s), |&n| Dim::Known(n)),
                    None => Dim::sym(&format!("{name}.{k}")),
                })
                .collect(),
            (None, None) => {
                let d = Diagnostic::error("E0209", format!("graph input {name:?} declares no shape"));
                return Err(d.note(format!("give it with --shape {name}=1x3x224x224")));
            }
        };
        let ty = TensorType::new(dtype, Shape(dims));
        if over_budget(&ty.shape, self.options.budget.elements) {
            return Err(Diagnostic::error("E0107", format!("graph input {name:?} of type {ty} has more elements than the budget")));
        }
        Ok(Slot::Value(self.builder().input(name, ty)))
    }

    fn text_input(&mut self, name: &str) -> Result<Slot, Diagnostic> {
        match self.options.texts.get(name) {
            Some(t) => Ok(self.text_value(t)),
            None => Err(Diagnostic::error("E0209", format!("graph input {name:?} is text: what it holds decides the computation"))
                .note(format!("give it when the model is read, as a NumPy array of strings: --input or --constant {name}=words.npy"))),
        }
    }

    fn output(&mut self, o: &ValueInfoProto) {
        let name = o.name();
        match lookup(&mut self.frames, name).map(|b| b.slot) {
            Some(slot) => {
                if let Slot::Value(v) = slot {
                    let ty = self.builder_ref().ty(v).clone();
                    self.contradiction(o, &ty);
                }
                self.give(name, slot);
            }
            None => {
                let d = Diagnostic::error("E0202", format!("graph output {name:?} is never made")).at(self.tensor_origin(name));
                self.fault(d);
            }
        }
    }

    /// An output of any kind: a sequence gives one output for each element, `name.0`, `name.1`, …; an empty optional gives none.
    fn give(&mut self, name: &str, slot: Slot) {
        match slot {
            Slot::Value(v) => self.builder().output(name, v),
            Slot::Text(v) => {
                self.builder().output(name, v);
                self.words.outputs.insert(name.to_string());
            }
            Slot::Sequence(values) => {
                for (k, v) in values.into_iter().enumerate() {
                    self.builder().output(&format!("{name}.{k}"), v);
                }
            }
            Slot::Optional(Some(inner)) => self.give(name, *inner),
            Slot::Optional(None) | Slot::Unknown => {}
            Slot::Missing(why) => {
                let d = Diagnostic::error("E0201", format!("graph output {name:?}: {why}")).at(self.tensor_origin(name));
                self.fault(d);
            }
        }
    }

    /// Inference is right where a model's declared output contradicts it; say so once.
    fn contradiction(&mut self, o: &ValueInfoProto, ty: &TensorType) {
        let Some((_, Some(declared))) = tensor_type(o) else { return };
        let differs = declared.len() != ty.rank()
            || declared.iter().zip(&ty.shape.0).any(|(d, t)| matches!((d, t), (Some(Extent::Number(n)), Dim::Known(m)) if n != m));
        if differs {
            let shown: Vec<String> = declared.iter().map(|d| d.as_ref().map_or("?".into(), Extent::show)).collect();
            self.warn("E0203", format!("output {:?} is {ty}; the model's declaration [{}] is wrong", o.name(), shown.join(", ")));
        }
    }

    /// Imports nodes into the innermost scope, dependencies first.
    pub(super) fn walk(&mut self, nodes: &'m [NodeProto]) {
        let given: BTreeSet<String> = self.scope().names.keys().cloned().collect();
        let order = order(nodes, &|n| given.contains(n));
        for (name, first, second) in order.twice {
            let by = first.map_or("an input or initializer".to_string(), |i| describe(i, &nodes[i]));
            let d =
                Diagnostic::error("E0202", format!("value {name:?} is made twice: by {by} and by {}", describe(second, &nodes[second])));
            let d = d.at(self.origin(second, &nodes[second])).note("every value of a graph has one name and one node that makes it");
            self.fault(d);
        }
        let mut stuck = BTreeSet::new();
        for cycle in order.cycles {
            let path: Vec<String> = cycle.iter().chain(cycle.first()).map(|&i| describe(i, &nodes[i])).collect();
            let d = Diagnostic::error("E0202", format!("the graph has a cycle of {} nodes", cycle.len()));
            let d = d.note(path.join(" → ")).note("ONNX graphs are acyclic; loops are written with Loop or Scan");
            let at = cycle.first().map(|&i| self.origin(i, &nodes[i])).unwrap_or_default();
            self.fault(d.at(at));
            stuck.extend(cycle);
        }
        for &i in &stuck {
            for o in &nodes[i].output {
                self.bind(o, Slot::Unknown, &format!("from {}", describe(i, &nodes[i])));
            }
        }
        for i in order.nodes {
            if !stuck.contains(&i) {
                self.node(i, &nodes[i]);
            }
        }
    }

    pub(super) fn origin(&mut self, index: usize, node: &NodeProto) -> Origin {
        let domain = schema::domain(node.domain());
        let scope = self.scope();
        let version = scope.opsets.get(domain).map_or(String::new(), |v| format!(", opset {v}"));
        let op = format!("{}{}{version}", scope.within, spelled(domain, node.op_type()));
        Origin::Node { model: self.name.clone(), index: index as u32, name: node.name().into(), op: op.into() }
    }

    fn node(&mut self, index: usize, node: &'m NodeProto) {
        self.nodes += 1;
        let origin = self.origin(index, node);
        let source = format!("from {}", describe(index, node));
        if self.nodes > self.options.budget.nodes {
            if !std::mem::replace(&mut self.over_budget, true) {
                let d = Diagnostic::error("E0107", format!("more than {} nodes, functions and loops unrolled", self.options.budget.nodes));
                self.fault(d.at(origin));
            }
            return self.unknown(node, &source);
        }
        let slots = self.operands(node, &origin);
        let domain = schema::domain(node.domain());
        if let Some(&f) = self.local.get(&(domain, node.op_type(), node.overload())) {
            return self.inline(f, node, slots.into_iter().map(|s| s.0).collect(), origin, &source);
        }
        let version = self.scope().opsets.get(domain).copied();
        let Some((schema, row)) = version.and_then(|v| ops::resolve(domain, node.op_type(), v)) else {
            // The prepass has reported it.
            return self.unknown(node, &source);
        };
        let attrs = NodeAttrs::new(node, &self.scope().attrs.clone());
        let mut faults = attrs.check(schema);
        faults.extend(operand_count(node, schema));
        let bad = !faults.is_empty();
        for e in faults {
            self.report(e, &origin, node, schema, &slots, None);
        }
        if bad || slots.iter().any(|s| matches!(s.0, Some(Slot::Unknown))) {
            return self.unknown(node, &source);
        }
        self.builder().set_origin(Arc::new(origin.clone()));
        let mut given: Vec<Option<Slot>> = slots.iter().map(|s| s.0.clone()).collect();
        let moves = match text::places(schema.name, &mut given) {
            Ok(moves) => moves,
            Err(e) => {
                self.report(e, &origin, node, schema, &slots, None);
                return self.unknown(node, &source);
            }
        };
        let mut cx = Context { imp: self, node, attrs, schema, slots: given, failed: None };
        let mut result = call(row, &mut cx);
        let failed = cx.failed.take();
        if moves && let Ok(results) = &mut result {
            for s in results {
                if let Slot::Value(v) = s {
                    *s = Slot::Text(*v);
                }
            }
        }
        match result {
            Ok(results) => {
                let mut results = results.into_iter();
                for (k, o) in node.output.iter().enumerate() {
                    let missing = || Slot::Missing(format!("result {k} of {} is not supported", node.op_type()).into());
                    let slot = results.next().unwrap_or_else(missing);
                    self.bind(o, slot, &source);
                }
            }
            Err(e) => {
                self.report(e, &origin, node, schema, &slots, failed);
                self.unknown(node, &source);
            }
        }
    }

    fn unknown(&mut self, node: &NodeProto, source: &str) {
        for o in &node.output {
            self.bind(o, Slot::Unknown, source);
        }
    }

    /// The operands of a node with their sources; names nobody makes are reported once.
    fn operands(&mut self, node: &NodeProto, origin: &Origin) -> Vec<(Option<Slot>, String)> {
        let mut out = Vec::with_capacity(node.input.len());
        for name in &node.input {
            if name.is_empty() {
                out.push((None, String::new()));
                continue;
            }
            let (slot, source) = match lookup(&mut self.frames, name) {
                Some(Binding { slot: Slot::Missing(why), source }) => {
                    let d = Diagnostic::error("E0201", format!("{name:?} cannot be used: {why}")).at(origin.clone());
                    self.fault(d);
                    (Slot::Unknown, source.to_string())
                }
                // An absent argument of an inlined function is an absent operand.
                Some(b) if matches!(b.slot, Slot::Optional(None)) && &*b.source == ABSENT => {
                    out.push((None, String::new()));
                    continue;
                }
                Some(b) => (b.slot, b.source.to_string()),
                None => {
                    if self.undefined.insert(name.clone()) {
                        let d =
                            Diagnostic::error("E0202", format!("{} uses {name:?}, which nothing makes", node.op_type())).at(origin.clone());
                        let scopes = || self.frames.iter().flat_map(|f| &f.scopes);
                        let all: usize = scopes().map(|s| s.names.len()).sum();
                        self.compared = self.compared.saturating_add(all);
                        let names = || scopes().flat_map(|s| s.names.keys()).map(|n| &**n);
                        let close = if self.compared <= MOST_COMPARED { crate::closest(name, names()) } else { None };
                        let d = match close {
                            Some(c) => d.note(format!("the closest name is {c:?}")),
                            None => d.note("it is neither an input, an initializer nor the output of a node"),
                        };
                        self.fault(d);
                    }
                    (Slot::Unknown, "nothing makes it".to_string())
                }
            };
            out.push((Some(slot), source));
        }
        out
    }

    /// Turns an importer's error into a diagnostic that shows all operands of the node.
    fn report(
        &mut self,
        e: OpError,
        origin: &Origin,
        node: &NodeProto,
        schema: &Schema,
        slots: &[(Option<Slot>, String)],
        failed: Option<Vec<ValueId>>,
    ) {
        let op = node.op_type();
        let text = e.message.strip_prefix("ml.").unwrap_or(&e.message);
        let text = match text.split_once(": ") {
            // The op's own name in front of its message would say the operator's name twice.
            Some((head, rest)) if tahoma_core::ops::find(head).is_some() => rest,
            _ => text,
        };
        let sep = if text.starts_with("has no")
            || text.starts_with("needs")
            || text.starts_with("asks")
            || text.starts_with("takes")
            || text.starts_with("gives")
        {
            " "
        } else {
            ": "
        };
        let mut d = Diagnostic::error(e.code, format!("{op}{sep}{text}")).at(origin.clone());
        let mut left: Vec<(usize, String)> = e.marks;
        for (i, (slot, source)) in slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let (ty, value) = match slot {
                Slot::Value(v) => (self.builder_ref().ty(*v).to_string(), Some(*v)),
                Slot::Text(v) => (format!("string{}", self.builder_ref().ty(*v).shape), None),
                Slot::Sequence(s) => (format!("sequence of {}", s.len()), None),
                Slot::Optional(_) => ("optional".to_string(), None),
                Slot::Unknown | Slot::Missing(_) => ("unknown".to_string(), None),
            };
            let marked = left.iter().position(|(k, _)| match &failed {
                Some(f) => f.get(*k).copied() == value && value.is_some(),
                None => *k == i,
            });
            let mark = marked.map(|p| left.remove(p).1).unwrap_or_default();
            let name = node.input.get(i).map(String::as_str).unwrap_or_default();
            d = d.label(formal(schema, i), format!("{name:?}  {ty}  {source}"), mark);
        }
        if let Some(f) = &failed {
            for (k, mark) in left {
                if let Some(&v) = f.get(k) {
                    let ty = self.builder_ref().ty(v).to_string();
                    d = d.label("inside", format!("{ty}  made within {op}"), mark);
                }
            }
        }
        d.notes.extend(e.notes);
        self.fault(d);
    }

    /// Inlines a model-local function: its body sees its parameters and nothing else.
    fn inline(&mut self, f: &'m FunctionProto, node: &'m NodeProto, args: Vec<Option<Slot>>, origin: Origin, source: &str) {
        if self.depth >= self.options.budget.nesting {
            let d = Diagnostic::error("E0107", format!("functions and graphs are nested deeper than {}", self.options.budget.nesting));
            self.fault(d.at(origin).note("a function that calls itself is not allowed"));
            return self.unknown(node, source);
        }
        if args.len() > f.input.len() {
            let d = Diagnostic::error("E0202", format!("{} takes {} operands, got {}", f.name(), f.input.len(), args.len()));
            self.fault(d.at(origin));
            return self.unknown(node, source);
        }
        let outer = self.scope();
        let within = format!("{}{}: ", outer.within, node.op_type());
        let (outer_opsets, outer_attrs) = (outer.opsets.clone(), outer.attrs.clone());
        let mut attrs: HashMap<&'m str, &'m crate::proto::AttributeProto> = f.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        attrs.extend(NodeAttrs::new(node, &outer_attrs).all().iter().copied());
        let opsets = if f.opset_import.is_empty() { outer_opsets } else { Rc::new(prepass::opsets(&f.opset_import)) };
        let scope = Scope { isolated: true, opsets, attrs: Rc::new(attrs), within: within.into(), ..Scope::default() };
        self.frame().scopes.push(scope);
        self.depth += 1;
        let mut args = args.into_iter();
        for p in &f.input {
            match args.next().flatten() {
                Some(slot) => self.bind(p, slot, &format!("argument of {}", f.name())),
                // An absent argument is an absent operand of the nodes that use it.
                None => self.bind(p, Slot::Optional(None), ABSENT),
            }
        }
        self.walk(&f.node);
        let results: Vec<Slot> = f.output.iter().map(|o| self.local_result(o, f.name(), &origin)).collect();
        self.depth -= 1;
        self.frame().scopes.pop();
        for (o, slot) in node.output.iter().zip(results) {
            self.bind(o, slot, source);
        }
    }

    fn local_result(&mut self, name: &str, function: &str, origin: &Origin) -> Slot {
        if let Some(b) = lookup(&mut self.frames, name) {
            return b.slot;
        }
        let d = Diagnostic::error("E0202", format!("function {function} never makes its result {name:?}")).at(origin.clone());
        self.fault(d);
        Slot::Unknown
    }

    /// Inlines a subgraph into the frame: `args` are bound to its inputs. Gives its outputs.
    pub(super) fn subgraph(&mut self, g: &'m GraphProto, args: Vec<Slot>) -> Result<Vec<Slot>, OpError> {
        if self.depth >= self.options.budget.nesting {
            return Err(OpError::new("E0107", format!("graphs are nested deeper than {}", self.options.budget.nesting)));
        }
        let outer = self.scope();
        let scope = Scope { opsets: outer.opsets.clone(), attrs: outer.attrs.clone(), within: outer.within.clone(), ..Scope::default() };
        self.frame().scopes.push(scope);
        self.depth += 1;
        for (i, a) in g.input.iter().zip(args) {
            self.bind(i.name(), a, "subgraph input");
        }
        self.initializers(g);
        let before = self.builder_ref().origin().clone();
        self.walk(&g.node);
        let mut out = Vec::with_capacity(g.output.len());
        let mut missing = None;
        for o in &g.output {
            match lookup(&mut self.frames, o.name()) {
                Some(b) => out.push(b.slot),
                None => missing = Some(o.name().to_string()),
            }
        }
        self.builder().set_origin(before);
        self.depth -= 1;
        self.frame().scopes.pop();
        match missing {
            Some(name) => Err(OpError::new("E0202", format!("output {name:?} of subgraph {:?} is never made", g.name()))),
            None => Ok(out),
        }
    }
}

/// Names of inputs that the caller gives something for, with the code of an error about one that is not there.
fn given_names(o: &ImportOptions) -> impl Iterator<Item = (&String, &'static str)> {
    let shapes = o.shapes.keys().map(|k| (k, "E0207"));
    shapes.chain(o.constants.keys().chain(o.texts.keys()).map(|k| (k, "E0601")))
}

fn call(row: &Row, cx: &mut Context) -> Result<Vec<Slot>, OpError> {
    let values = |cx: &mut Context| match row.import {
        Import::One(f) => Ok(vec![f(cx)?]),
        Import::Many(f) => f(cx),
        Import::Slots(_) => Ok(vec![]),
    };
    let made = match (row.import, row.in_f32) {
        (Import::Slots(f), _) => return f(cx),
        (_, Some(results)) => cx.in_f32(results, values)?,
        _ => values(cx)?,
    };
    Ok(made.into_iter().map(Slot::Value).collect())
}

fn operand_count(node: &NodeProto, schema: &Schema) -> Option<OpError> {
    let given = node.input.len() as u32;
    let (least, most) = schema.inputs;
    if node.output.len() as u64 > schema.outputs.1 as u64 {
        return Some(OpError::new("E0202", format!("gives at most {} results, the node names {}", schema.outputs.1, node.output.len())));
    }
    // Trailing optionals may be left out; a missing required operand in the middle shows when it is asked for.
    if given >= least && given <= most {
        return None;
    }
    let want = if least == most {
        least.to_string()
    } else if most == u32::MAX {
        format!("at least {least}")
    } else {
        format!("{least} to {most}")
    };
    let e = OpError::new("E0202", format!("takes {want} operands, got {given}"));
    Some(e.note(format!("operands of {} in opset {}: {}", schema.name, schema.since, schema.operands.join(", "))))
}

pub(super) fn describe(index: usize, node: &NodeProto) -> String {
    if node.name().is_empty() {
        format!("node {index} ({})", node.op_type())
    } else {
        format!("node {index} ({} {:?})", node.op_type(), node.name())
    }
}
