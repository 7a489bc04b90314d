//! Loops whose number of runs is known: recurrent layers, `Scan`, counted `Loop`.
//!
//! ```text
//! steps(carried, rows of what is sliced, shared) -> (next carried, rows to keep)      one body and an ml.scan, or unrolled
//! ```
//!
//! The body is built once and repeated by an `ml.scan`, so that what a model costs does not grow with its length. Few runs are unrolled:
//! launches that are fused across runs are then fewer than those of a loop. So are bodies that a loop cannot have: state that changes its
//! type, extents that depend on the number of the run, random numbers.

use super::context::{Context, R, V, attrs, over_budget};
use super::frame::{Frame, Scope};
use std::collections::BTreeSet;
use tahoma_core::ops::scan::{MAX_TRIPS, SCAN, row_type, stack_type};
use tahoma_core::{Attr, Dim, Graph, OpError, TensorType, ValueId};

/// Most runs that are always unrolled.
pub(super) const SHORT: usize = 4;

/// What is repeated.
pub(super) struct Steps<'a> {
    pub(super) trips: usize,
    pub(super) carried: &'a [V],
    /// Values of first extent `trips`; whether the last row comes first.
    pub(super) sliced: &'a [(V, bool)],
    /// Seen by every run as they are.
    pub(super) shared: &'a [V],
    /// Of each kept row: whether the first run gives the last.
    pub(super) kept: &'a [bool],
}

/// Makes from the carried values, one row of each sliced value and the shared values the next carried values, then the rows to keep. It
/// sees nothing else of the frame outside but by name.
pub(super) type Step<'s, 'm> = &'s mut dyn FnMut(&mut Context<'_, 'm>, &[V], &[V], &[V]) -> R<Vec<V>>;

impl Steps<'_> {
    /// The last carried values, then what was kept, stacked along a new first axis. At least one run, unless nothing is kept.
    pub(super) fn run<'m>(&self, cx: &mut Context<'_, 'm>, step: Step<'_, 'm>) -> R<Vec<V>> {
        let mut why = None;
        if self.trips > SHORT {
            match self.looped(cx, step) {
                Ok(Some(out)) => return Ok(out),
                Ok(None) => {}
                Err(e) => why = Some(e),
            }
        }
        let most = cx.imp.options.budget.trips;
        if self.trips > most {
            return Err(why.unwrap_or_else(|| {
                OpError::new("E0107", format!("{} runs of a body that must be unrolled, more than {most}", self.trips))
            }));
        }
        self.unrolled(cx, step)
    }

    fn unrolled<'m>(&self, cx: &mut Context<'_, 'm>, step: Step<'_, 'm>) -> R<Vec<V>> {
        let mut carried = self.carried.to_vec();
        let mut stacks: Vec<Vec<V>> = vec![vec![]; self.kept.len()];
        for t in 0..self.trips {
            let mut rows = vec![];
            for &(x, reverse) in self.sliced {
                let row = cx.slice(x, 0, if reverse { self.trips - 1 - t } else { t }, 1)?;
                rows.push(cx.squeeze(row, &[0])?);
            }
            let mut out = step(cx, &carried, &rows, self.shared)?;
            let kept = out.split_off(carried.len().min(out.len()));
            if out.len() != carried.len() || kept.len() != stacks.len() {
                return Err(results());
            }
            carried = out;
            stacks.iter_mut().zip(kept).for_each(|(s, v)| s.push(v));
        }
        for (mut s, &reverse) in stacks.into_iter().zip(self.kept) {
            if reverse {
                s.reverse();
            }
            let rows: Vec<V> = s.into_iter().map(|v| cx.unsqueeze(v, 0)).collect::<R<_>>()?;
            if rows.is_empty() {
                return Err(OpError::new("E0901", "no rows to stack"));
            }
            carried.push(cx.concat(&rows, 0)?);
        }
        Ok(carried)
    }

    /// As a loop; `None` where the body is not fit for one, and then nothing is left of it.
    pub(super) fn looped<'m>(&self, cx: &mut Context<'_, 'm>, step: Step<'_, 'm>) -> R<Option<Vec<V>>> {
        if self.trips as u64 > MAX_TRIPS {
            return Err(OpError::new("E0107", format!("a loop of {} runs, more than {MAX_TRIPS}", self.trips)));
        }
        let random = cx.imp.random_drawn();
        let (faults, functions) = (cx.imp.diags.0.len(), cx.imp.functions.keys().cloned().collect::<BTreeSet<_>>());
        let made = self.body(cx, step);
        let body = match made {
            Ok((body, captured)) if cx.imp.diags.0.len() == faults && cx.imp.random_drawn() == random => {
                self.fit(cx, &body).then_some((body, captured))
            }
            other => {
                cx.imp.untell(faults);
                cx.imp.set_random_drawn(random);
                cx.imp.functions.retain(|n, _| functions.contains(n));
                return other.map(|_| None);
            }
        };
        let Some((body, captured)) = body else {
            cx.imp.functions.retain(|n, _| functions.contains(n));
            return Ok(None);
        };
        let gives = |i: usize| body.ty(body.outputs[i].value).clone();
        let carried = self.carried.len();
        let types = (0..body.outputs.len()).map(|i| if i < carried { gives(i) } else { stack_type(&gives(i), self.trips) });
        let types: Vec<TensorType> = types.collect();
        if let Some(t) = types.iter().find(|t| over_budget(&t.shape, cx.imp.options.budget.elements)) {
            return Err(OpError::new(
                "E0107",
                format!("asks for a tensor of type {t}, more than {} elements", cx.imp.options.budget.elements),
            ));
        }
        let reverse: Vec<i64> = self.sliced.iter().map(|s| s.1).chain(self.kept.iter().copied()).map(i64::from).collect();
        let attributes = attrs! {
            "body": Attr::Func(body.name.as_str().into()), "carried": carried as i64, "sliced": self.sliced.len() as i64,
            "trips": self.trips as i64, "reverse": reverse
        };
        let sliced: Vec<V> = self.sliced.iter().map(|s| s.0).collect();
        let operands = [self.carried, &sliced, self.shared, &captured].concat();
        cx.imp.functions.insert(body.name.clone(), body);
        Ok(Some(cx.b().structure(SCAN, &operands, attributes, types)?))
    }

    /// The body as a function, and the values outside that it captures by name.
    fn body<'m>(&self, cx: &mut Context<'_, 'm>, step: Step<'_, 'm>) -> R<(Graph, Vec<ValueId>)> {
        let name = cx.imp.fresh_name("steps");
        let outer = cx.imp.scope();
        let scope = Scope { opsets: outer.opsets.clone(), attrs: outer.attrs.clone(), within: outer.within.clone(), ..Scope::default() };
        let carried: Vec<TensorType> = self.carried.iter().map(|&v| cx.ty(v)).collect();
        let rows: Vec<TensorType> = self.sliced.iter().map(|s| row_type(&cx.ty(s.0))).collect();
        let shared: Vec<TensorType> = self.shared.iter().map(|&v| cx.ty(v)).collect();
        let mut frame = Frame::new(&name);
        frame.builder.set_origin(cx.imp.builder_ref().origin().clone());
        frame.scopes.push(scope);
        let mut inputs = |what: &str, types: &[TensorType]| -> Vec<V> {
            types.iter().enumerate().map(|(i, t)| frame.builder.input(&format!("{what}{i}"), t.clone())).collect()
        };
        let (carried, rows, shared) = (inputs("state", &carried), inputs("row", &rows), inputs("shared", &shared));
        cx.imp.frames.push(frame);
        let made = step(cx, &carried, &rows, &shared);
        let Some(mut frame) = cx.imp.frames.pop() else {
            return Err(OpError::new("E0901", "the import lost its frame"));
        };
        let out = made?;
        if out.len() != carried.len() + self.kept.len() {
            return Err(results());
        }
        for (i, &v) in out.iter().enumerate() {
            let what = if i < carried.len() { format!("state{i}") } else { format!("kept{}", i - carried.len()) };
            frame.builder.output(&what, v);
        }
        let captured = frame.captures.iter().map(|c| c.0).collect();
        Ok((frame.builder.finish(), captured))
    }

    /// Whether every run makes what the first does: state keeps its type, and no extent is known only in a run.
    fn fit(&self, cx: &Context, body: &Graph) -> bool {
        let kept = self.carried.iter().zip(&body.outputs).all(|(&v, o)| cx.ty(v) == *body.ty(o.value));
        let open = |v: &ValueId| {
            body.ty(*v).shape.0.iter().filter_map(|d| if let Dim::Sym(s) = d { Some(s.clone()) } else { None }).collect::<Vec<_>>()
        };
        let given: BTreeSet<_> = body.inputs.iter().flat_map(|p| open(&p.value)).collect();
        kept && body.nodes.iter().flat_map(|n| &n.results).flat_map(open).all(|s| given.contains(&s))
    }
}

fn results() -> OpError {
    OpError::new("E0202", "the body's results do not match what is carried and kept")
}
