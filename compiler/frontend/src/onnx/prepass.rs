//! Before the walk: all operators nobody knows, in one go, and operator sets that are missing or too new.

use super::ops;
use super::order::subgraphs;
use super::schema;
use crate::proto::{ModelProto, NodeProto, OperatorSetIdProto};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tahoma_core::{Diagnostic, Diagnostics, Origin};

/// Operator set versions by domain.
pub(super) fn opsets(imports: &[OperatorSetIdProto]) -> HashMap<String, i64> {
    imports.iter().map(|o| (schema::domain(o.domain()).to_string(), o.version())).collect()
}

/// Those of a model: before IR version 3 there was only set 1 and no place to say so (ONNX IR, "Operator sets"); of ONNX Runtime's
/// operators there is one set, which its tools leave out.
pub(crate) fn opsets_of(m: &ModelProto) -> HashMap<String, i64> {
    let mut sets = opsets(&m.opset_import);
    if m.ir_version() < 3 {
        sets.entry(String::new()).or_insert(1);
    }
    sets.entry("com.microsoft".into()).or_insert(1);
    sets
}

/// `Conv`, or `com.acme.Conv`.
pub(crate) fn spelled(domain: &str, op: &str) -> String {
    if domain.is_empty() { op.to_string() } else { format!("{domain}.{op}") }
}

type Places = Vec<(usize, String, Option<i64>)>;

/// Checks every node of the model's graphs and functions.
pub(super) fn check(model: &ModelProto, name: &Arc<str>, diags: &mut Diagnostics) {
    let mut unknown: BTreeMap<(String, String), Places> = BTreeMap::new();
    let mut unset: BTreeMap<String, usize> = BTreeMap::new();
    let main = opsets_of(model);
    for (domain, version) in &main {
        let bad = if *version < 1 { "is not a version" } else { "is newer than this Tahoma knows" };
        if *version < 1 || domain.is_empty() && *version > schema::NEWEST_OPSET {
            let what = spelled(domain, "").trim_end_matches('.').to_string();
            let what = if what.is_empty() { "ai.onnx".into() } else { what };
            diags.push(
                Diagnostic::error("E0208", format!("operator set {version} of {what} {bad}"))
                    .at(Origin::Tensor { model: name.clone(), name: "opset_import".into() })
                    .note(format!(
                        "operator sets 1 to {} are known; onnx.version_converter changes a model's version",
                        schema::NEWEST_OPSET
                    )),
            );
        }
    }
    let bodies =
        model.functions.iter().map(|f| (&f.node[..], if f.opset_import.is_empty() { main.clone() } else { opsets(&f.opset_import) }));
    let graph = model.graph.as_ref().map(|g| (&g.node[..], main.clone()));
    for (nodes, opsets) in graph.into_iter().chain(bodies) {
        let mut stack: Vec<(usize, &NodeProto)> = nodes.iter().enumerate().rev().collect();
        while let Some((i, n)) = stack.pop() {
            for g in subgraphs(n) {
                stack.extend(g.node.iter().enumerate().rev());
            }
            let domain = schema::domain(n.domain());
            if model.functions.iter().any(|f| schema::domain(f.domain()) == domain && f.name() == n.op_type()) {
                continue;
            }
            let version = opsets.get(domain).copied();
            if version.is_none() {
                *unset.entry(domain.to_string()).or_default() += 1;
                if domain.is_empty() {
                    continue;
                }
            }
            if ops::resolve(domain, n.op_type(), version.unwrap_or(1)).is_none() {
                unknown.entry((domain.to_string(), n.op_type().to_string())).or_default().push((i, n.name().to_string(), version));
            }
        }
    }
    for (domain, count) in unset {
        let what = if domain.is_empty() { "ai.onnx" } else { &domain };
        diags.push(
            Diagnostic::error("E0208", format!("the model imports no operator set of {what}, but {count} of its nodes need one"))
                .at(Origin::Tensor { model: name.clone(), name: "opset_import".into() })
                .note(format!("add opset_import {{ domain: {domain:?}, version: … }}: the meaning of operators depends on it")),
        );
    }
    let kinds = unknown.len();
    for (k, ((domain, op), places)) in unknown.into_iter().enumerate() {
        diags.push(describe(&domain, &op, &places, name, (k + 1, kinds)));
    }
}

/// Unknown operators that are compared with those there are: a model with more of them is told of the others without suggestions.
const MOST_COMPARED: usize = 1000;

fn describe(domain: &str, op: &str, places: &Places, model: &Arc<str>, of: (usize, usize)) -> Diagnostic {
    let (index, node, version) = &places[0];
    let shown = spelled(domain, op);
    let known = schema::versions(domain, op);
    let why = match (known.first(), version) {
        (Some(s), Some(v)) if s.since > *v => format!("is not in operator set {v}: it came with {}", s.since),
        (Some(_), _) => "is an ONNX operator that Tahoma does not support".to_string(),
        _ => "is not a known operator".to_string(),
    };
    let nodes = if places.len() == 1 { "1 node".to_string() } else { format!("{} nodes", places.len()) };
    let set = version.map_or(String::new(), |v| format!(", opset {v}"));
    let mut d = Diagnostic::error("E0201", format!("{shown} {why} ({nodes}; unknown operator {} of {})", of.0, of.1)).at(Origin::Node {
        model: model.clone(),
        index: *index as u32,
        name: node.as_str().into(),
        op: format!("{shown}{set}").into(),
    });
    for (i, name, _) in places.iter().skip(1).take(15) {
        d = d.label(format!("node {i}"), if name.is_empty() { "(no name)".to_string() } else { format!("{name:?}") }, "");
    }
    if places.len() > 16 {
        d = d.note(format!("and {} more nodes", places.len() - 16));
    }
    if of.0 <= MOST_COMPARED {
        d = d.note(match crate::closest(op, ops::names()) {
            Some(c) => format!("the closest supported operator is {c}"),
            None => "no supported operator has a similar name".to_string(),
        });
    }
    if known.is_empty() {
        d = d.note(format!("a model-local function named {shown} would define it: Tahoma inlines those"));
    }
    d
}
