//! What a loop need not do in every run is done once before it.
//!
//! ```text
//! made of weights alone            a part of the body all the same: load steps, which no run repeats
//! made of what every run shares    once, outside                                            s·W      =>  one value
//! made of a row and of those       for all rows at once, outside: one contraction           x_t·W    =>  rows of X·W
//! made of state                    stays
//! ```

use std::collections::HashMap;
use tahoma_core::graph::Node;
use tahoma_core::op::{Contract, Kind, Move};
use tahoma_core::ops::scan::{SCAN, ScanForm, stack_type};
use tahoma_core::{Attr, Attrs, Builder, Graph, OpError, Port, TensorType, ValueId};

/// Where a value of the body is.
#[derive(Clone, Copy)]
enum At {
    /// Made of weights and constants: on both sides.
    Fixed {
        inner: ValueId,
        outer: ValueId,
    },
    /// The same in every run: a value outside.
    Same(ValueId),
    /// Row t, or the t-th from the end, of a value outside.
    Rows(ValueId, bool),
    Inner(ValueId),
}

/// Writes a scan of `body` over `operands` into `b`, where the body has the types that it gets and every extent is known; its results.
/// `add` keeps the new body, unless nothing is left to repeat, and names it.
pub(super) fn hoist(
    b: &mut Builder,
    form: &ScanForm,
    body: &Graph,
    operands: &[ValueId],
    add: &mut dyn FnMut(Graph) -> String,
) -> Result<Vec<ValueId>, OpError> {
    let origin = b.origin().clone();
    let mut h = Hoist { b, trips: form.trips, inner: Builder::new(&form.body), at: HashMap::new(), rows: vec![], others: vec![] };
    h.ports(form, body, operands);
    for n in &body.nodes {
        h.b.set_origin(n.origin.clone());
        h.inner.set_origin(n.origin.clone());
        h.node(body, n)?;
    }
    h.b.set_origin(origin);
    h.finish(form, body, operands, add)
}

struct Hoist<'a> {
    b: &'a mut Builder,
    trips: usize,
    inner: Builder,
    at: HashMap<ValueId, At>,
    /// What the new body takes rows of, and what it shares: values outside, with the inputs they became.
    rows: Vec<(ValueId, bool, ValueId)>,
    others: Vec<(ValueId, ValueId)>,
}

impl Hoist<'_> {
    fn ports(&mut self, form: &ScanForm, body: &Graph, operands: &[ValueId]) {
        for (i, (p, &v)) in body.inputs.iter().zip(operands).enumerate() {
            let unchanged = i < form.carried && body.outputs[i].value == p.value;
            let at = if i < form.carried && !unchanged {
                At::Inner(self.inner.input(&p.name, body.ty(p.value).clone()))
            } else if (form.carried..form.carried + form.sliced).contains(&i) {
                At::Rows(v, form.reverse[i - form.carried])
            } else {
                match self.sink(v) {
                    Some(inner) => At::Fixed { inner, outer: v },
                    None => At::Same(v),
                }
            };
            self.at.insert(p.value, at);
        }
    }

    /// A value outside that is made of weights and constants alone, made again inside.
    fn sink(&mut self, v: ValueId) -> Option<ValueId> {
        let g = self.b.graph();
        let producers = g.producers();
        let (mut needed, mut open) = (vec![], vec![v]);
        while let Some(v) = open.pop() {
            let i = producers[v.index()]?;
            if matches!(g.nodes[i].op.kind, Kind::Structure) && !matches!(g.nodes[i].op.name, "weight" | "constant") {
                return None;
            }
            if !needed.contains(&i) {
                needed.push(i);
                open.extend(&g.nodes[i].operands);
            }
        }
        needed.sort_unstable();
        let mut to: HashMap<ValueId, ValueId> = HashMap::new();
        for i in needed {
            let n = &self.b.graph().nodes[i];
            let operands: Vec<ValueId> = n.operands.iter().map(|v| to[v]).collect();
            self.inner.set_origin(n.origin.clone());
            let made = emit(&mut self.inner, n, &operands, &self.b.ty(n.results[0]).clone()).ok()?;
            to.extend(n.results.iter().copied().zip(made));
        }
        to.get(&v).copied()
    }

    fn node(&mut self, body: &Graph, n: &Node) -> Result<(), OpError> {
        let ats: Vec<At> = n.operands.iter().map(|v| self.at[v]).collect();
        let ty = body.ty(n.results[0]);
        let plain = !matches!(n.op.kind, Kind::Structure) || matches!(n.op.name, "weight" | "constant");
        let outer: Option<Vec<ValueId>> =
            ats.iter().map(|a| if let At::Fixed { outer, .. } | At::Same(outer) = a { Some(*outer) } else { None }).collect();
        if let Some(operands) = outer.filter(|_| plain) {
            let out = emit(self.b, n, &operands, ty)?;
            let fixed: Option<Vec<ValueId>> =
                ats.iter().map(|a| if let At::Fixed { inner, .. } = a { Some(*inner) } else { None }).collect();
            let made: Vec<At> = match fixed {
                Some(operands) => {
                    let inner = emit(&mut self.inner, n, &operands, ty)?;
                    inner.into_iter().zip(out).map(|(inner, outer)| At::Fixed { inner, outer }).collect()
                }
                None => out.into_iter().map(At::Same).collect(),
            };
            self.at.extend(n.results.iter().copied().zip(made));
            return Ok(());
        }
        if let Some(at) = self.all_rows(n, &ats, ty) {
            self.at.insert(n.results[0], at);
            return Ok(());
        }
        let operands: Vec<ValueId> = ats.into_iter().map(|a| self.inside(a)).collect();
        let out = if plain {
            emit(&mut self.inner, n, &operands, ty)?
        } else {
            let types = n.results.iter().map(|&r| body.ty(r).clone()).collect();
            self.inner.structure(n.op.0, &operands, n.attrs.clone(), types)?
        };
        self.at.extend(n.results.iter().copied().zip(out.into_iter().map(At::Inner)));
        Ok(())
    }

    /// A value as the new body sees it.
    fn inside(&mut self, a: At) -> ValueId {
        match a {
            At::Inner(v) | At::Fixed { inner: v, .. } => v,
            At::Same(v) => match self.others.iter().find(|o| o.0 == v) {
                Some(o) => o.1,
                None => {
                    let port = self.inner.input(&format!("shared{}", self.others.len()), self.b.ty(v).clone());
                    self.others.push((v, port));
                    port
                }
            },
            At::Rows(v, reverse) => match self.rows.iter().find(|r| (r.0, r.1) == (v, reverse)) {
                Some(r) => r.2,
                None => {
                    let ty = tahoma_core::ops::scan::row_type(self.b.ty(v));
                    let port = self.inner.input(&format!("row{}", self.rows.len()), ty);
                    self.rows.push((v, reverse, port));
                    port
                }
            },
        }
    }

    /// The node done for all rows at once, where it can be and makes no more than it reads, unless it is a product or a gather.
    fn all_rows(&mut self, n: &Node, ats: &[At], ty: &TensorType) -> Option<At> {
        let reverse = ats.iter().find_map(|a| if let At::Rows(_, r) = a { Some(*r) } else { None })?;
        let fits = |a: &At| match a {
            At::Rows(_, r) => *r == reverse,
            At::Inner(_) => false,
            At::Fixed { .. } | At::Same(_) => true,
        };
        if n.results.len() != 1 || !ats.iter().all(fits) {
            return None;
        }
        let want = stack_type(ty, self.trips);
        let elements = |t: &TensorType| t.shape.elements().unwrap_or(u64::MAX);
        let most = ats.iter().map(|a| if let At::Rows(v, _) = a { elements(self.b.ty(*v)) } else { 0 }).fold(0, u64::saturating_add);
        if !matches!(n.op.kind, Kind::Contract(_) | Kind::Gather) && elements(&want) > most {
            return None;
        }
        let made = self.batched(n, ats, ty)?;
        (*self.b.ty(made) == want).then_some(At::Rows(made, reverse))
    }

    fn batched(&mut self, n: &Node, ats: &[At], ty: &TensorType) -> Option<ValueId> {
        let rank = ty.rank();
        let op = n.op.0;
        match &n.op.kind {
            Kind::Elementwise(_) => {
                let operands: Vec<ValueId> = ats.iter().map(|&a| self.lead(a, rank)).collect::<Option<_>>()?;
                self.b.emit1(op, &operands, n.attrs.clone()).ok()
            }
            Kind::Contract(Contract::MatMul) => self.product(n, ats),
            Kind::Reduce(_) => {
                let axes: Vec<i64> = n.attrs.ints("axes")?.iter().map(|a| a + 1).collect();
                self.b.emit1(op, &[outer(ats[0])], n.attrs.clone().with("axes", axes)).ok()
            }
            Kind::Move(m) => {
                let front = |name: &str, first: i64| Some([&[first], n.attrs.ints(name)?].concat());
                let trips = self.trips as i64;
                let attrs = match m {
                    Move::Transpose => {
                        let perm = n.attrs.ints("perm")?.iter().map(|p| p + 1);
                        n.attrs.clone().with("perm", std::iter::once(0).chain(perm).collect::<Vec<i64>>())
                    }
                    Move::Reshape => n.attrs.clone().with("shape", front("shape", trips)?),
                    Move::Slice => {
                        let a = n.attrs.clone().with("starts", front("starts", 0)?);
                        a.with("sizes", front("sizes", trips)?).with("steps", front("steps", 1)?)
                    }
                    Move::Concat if ats.iter().all(|a| matches!(a, At::Rows(..))) => {
                        n.attrs.clone().with("axis", n.attrs.int("axis")?.checked_add(1)?)
                    }
                    Move::Concat | Move::Broadcast | Move::Pad => return None,
                };
                let operands: Vec<ValueId> = ats.iter().map(|&a| outer(a)).collect();
                self.b.emit1(op, &operands, attrs).ok()
            }
            Kind::Gather if n.op.name == "gather" => {
                let axis = usize::try_from(n.attrs.int("axis")?).ok()?;
                match (ats[0], ats[1]) {
                    (At::Rows(x, _), At::Fixed { outer: i, .. } | At::Same(i)) => {
                        self.b.emit1(op, &[x, i], n.attrs.clone().with("axis", axis as i64 + 1)).ok()
                    }
                    (At::Fixed { outer: x, .. } | At::Same(x), At::Rows(i, _)) => {
                        let y = self.b.emit1(op, &[x, i], n.attrs.clone()).ok()?;
                        let mut perm: Vec<i64> = (0..=rank as i64).filter(|&a| a != axis as i64).collect();
                        perm.insert(0, axis as i64);
                        if axis == 0 { Some(y) } else { self.b.op("transpose", &[y], Attrs::new().with("perm", perm)).ok() }
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Rows times what every run shares are the rows of one product.
    fn product(&mut self, n: &Node, ats: &[At]) -> Option<ValueId> {
        let (x, w) = (outer(ats[0]), outer(ats[1]));
        let (xs, ws) = (self.b.ty(x).shape.to_static()?, self.b.ty(w).shape.to_static()?);
        if let (At::Rows(..), [t, m, k], [_, cols]) = (ats[0], &xs[..], &ws[..])
            && !matches!(ats[1], At::Rows(..))
        {
            let flat = self.reshape(x, &[t * m, *k])?;
            let y = self.b.emit1(n.op.0, &[flat, w], n.attrs.clone()).ok()?;
            return self.reshape(y, &[*t, *m, *cols]);
        }
        // Else numpy's own axes in front do it, where both have them.
        let rank = |a: At, dims: &[usize]| dims.len() - usize::from(matches!(a, At::Rows(..)));
        let r = rank(ats[0], &xs);
        if r < 2 || r != rank(ats[1], &ws) {
            return None;
        }
        self.b.emit1(n.op.0, &[x, w], n.attrs.clone()).ok()
    }

    /// Rows with the axis of the runs before all `rank` axes of the result.
    fn lead(&mut self, a: At, rank: usize) -> Option<ValueId> {
        let At::Rows(v, _) = a else { return Some(outer(a)) };
        let dims = self.b.ty(v).shape.to_static()?;
        let missing = (rank + 1).checked_sub(dims.len())?;
        if missing == 0 {
            return Some(v);
        }
        let shape = [&dims[..1], &vec![1; missing], &dims[1..]].concat();
        self.reshape(v, &shape)
    }

    fn reshape(&mut self, v: ValueId, dims: &[usize]) -> Option<ValueId> {
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        self.b.op("reshape", &[v], Attrs::new().with("shape", shape)).ok()
    }

    fn finish(
        mut self,
        form: &ScanForm,
        body: &Graph,
        operands: &[ValueId],
        add: &mut dyn FnMut(Graph) -> String,
    ) -> Result<Vec<ValueId>, OpError> {
        // Of each result: known outside, or a place among those of the new scan.
        let mut results: Vec<Result<ValueId, usize>> = vec![];
        let (mut carried, mut next, mut kept, mut reverse) = (vec![], vec![], vec![], vec![]);
        for (i, o) in body.outputs.iter().take(form.carried).enumerate() {
            if o.value == body.inputs[i].value {
                results.push(Ok(operands[i]));
                continue;
            }
            results.push(Err(next.len()));
            carried.push(i);
            let at = self.at[&o.value];
            next.push(self.inside(at));
        }
        for (i, o) in body.outputs.iter().enumerate().skip(form.carried) {
            let (at, back) = (self.at[&o.value], form.reverse[form.sliced + i - form.carried]);
            let ty = stack_type(body.ty(o.value), form.trips);
            let done = match at {
                At::Rows(v, r) if r == back => Some(v),
                At::Rows(v, _) => self.backwards(v),
                At::Same(v) | At::Fixed { outer: v, .. } => self.every_run(v, &ty),
                At::Inner(_) => None,
            };
            results.push(done.ok_or(next.len() + kept.len()));
            if done.is_none() {
                let v = self.inside(at);
                kept.push(v);
                reverse.push(i64::from(back));
            }
        }
        let mut made: Vec<ValueId> = vec![];
        if !(next.is_empty() && kept.is_empty()) {
            let ports = |i: usize| self.inner.graph().inputs[i].clone();
            let states: Vec<Port> = (0..carried.len()).map(ports).collect();
            for (i, &v) in next.iter().chain(&kept).enumerate() {
                let what = if i < next.len() { format!("state{i}") } else { format!("kept{}", i - next.len()) };
                self.inner.output(&what, v);
            }
            let mut g = self.inner.finish();
            let port = |(i, v): (usize, ValueId)| Port {
                name: g.inputs.iter().find(|p| p.value == v).map_or(i.to_string(), |p| p.name.clone()),
                value: v,
            };
            let more: Vec<Port> = self.rows.iter().map(|r| r.2).chain(self.others.iter().map(|o| o.1)).enumerate().map(port).collect();
            g.inputs = [states, more].concat();
            let starts = carried.iter().map(|&i| operands[i]);
            let all: Vec<ValueId> = starts.chain(self.rows.iter().map(|r| r.0)).chain(self.others.iter().map(|o| o.0)).collect();
            let reverse: Vec<i64> = self.rows.iter().map(|r| i64::from(r.1)).chain(reverse).collect();
            let types: Vec<TensorType> = g
                .outputs
                .iter()
                .enumerate()
                .map(|(i, o)| {
                    let t = g.ty(o.value);
                    if i < carried.len() { t.clone() } else { stack_type(t, form.trips) }
                })
                .collect();
            let attrs = Attrs::new().with("body", Attr::Func(add(g).as_str().into())).with("carried", carried.len() as i64);
            let attrs = attrs.with("sliced", self.rows.len() as i64).with("trips", form.trips as i64).with("reverse", reverse);
            made = self.b.structure(SCAN, &all, attrs, types)?;
        }
        Ok(results.into_iter().map(|r| r.unwrap_or_else(|i| made[i])).collect())
    }

    fn backwards(&mut self, v: ValueId) -> Option<ValueId> {
        let dims: Vec<i64> = self.b.ty(v).shape.to_static()?.iter().map(|&d| d as i64).collect();
        let with = |first: i64, other: i64| (0..dims.len()).map(|i| if i == 0 { first } else { other }).collect::<Vec<i64>>();
        let attrs = Attrs::new().with("starts", with(dims[0] - 1, 0)).with("sizes", dims.clone()).with("steps", with(-1, 1));
        self.b.op("slice", &[v], attrs).ok()
    }

    fn every_run(&mut self, v: ValueId, ty: &TensorType) -> Option<ValueId> {
        let dims = ty.shape.to_static()?;
        let one = self.reshape(v, &[&[1], &dims[1..]].concat())?;
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        self.b.op("broadcast", &[one], Attrs::new().with("shape", shape)).ok()
    }
}

/// The value outside of what is not made inside.
fn outer(a: At) -> ValueId {
    match a {
        At::Fixed { outer: v, .. } | At::Same(v) | At::Rows(v, _) | At::Inner(v) => v,
    }
}

fn emit(b: &mut Builder, n: &Node, operands: &[ValueId], ty: &TensorType) -> Result<Vec<ValueId>, OpError> {
    match (n.op.name, n.attrs.tensor("value")) {
        ("weight", _) => Ok(vec![b.weight(n.attrs.str("name").unwrap_or_default(), ty.clone())]),
        ("constant", Some(t)) => Ok(vec![b.constant((**t).clone())]),
        _ => b.emit(n.op.0, operands, n.attrs.clone()),
    }
}
