//! Contractions that share an input become one: a rule with several roots, so it is code and not a row.
//!
//! ```text
//! x·A + a,  x·B + b,  …   =>   y = x·[A|B|…] + [a|b|…],  then slices of y
//! ```
//!
//! Query, key and value of an attention are one matmul, gate and up of a gated network too. The joined weights are a recipe. The
//! sum of each element is the same, but a back end may tile the wider matmul differently, so the class is `Reassociate`.

use crate::facts::EGraph;
use crate::language::{Node, OpId};
use crate::rules::Several;
use crate::rules::code::Site;
use egg::Id;
use std::collections::BTreeMap;
use tahoma_core::{Attr, DType};

pub const RULE: Several = Several {
    name: "merge-shared-input",
    sides: ["(matmul x A), (matmul x B), …", "(slice (matmul x (concat A B … 1)) …), …"],
    doc: "x·A, x·B, … are the columns of x·[A|B|…]: query, key and value of an attention are one product, and the joined weights are a \
          recipe. Biases are joined too where all have one.",
};
/// Most contractions joined at once.
const MOST: usize = 8;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    class: Id,
    weight: Id,
    bias: Option<Id>,
    columns: i64,
}

/// `x`, its extents are enough to build the slices.
type Key = (Id, bool, i64, DType);

fn find(g: &EGraph) -> BTreeMap<Key, Vec<Member>> {
    let (Some(matmul), Some(add)) = (OpId::named("matmul"), OpId::named("add")) else { return BTreeMap::new() };
    let dims = |id: Id| g[id].data.value().and_then(|v| v.ty.shape.to_static());
    let fixed = |id: Id| g[id].data.value().is_some_and(|v| v.fixed);
    // Only contractions of the source: what rules made of one is not worth joining with it.
    let source = |n: &Node| g.analysis.made.get(n).is_some_and(|m| m.rule.is_none());
    let product = |n: &Node| match n {
        Node::Op(op, c) if source(n) && *op == matmul && !fixed(c[0]) && fixed(c[1]) => {
            let (x, w) = (dims(c[0])?, dims(c[1])?);
            (x.len() >= 2 && w.len() == 2).then(|| (g.find(c[0]), g.find(c[1]), w[0] as i64, w[1] as i64))
        }
        _ => None,
    };
    // By class, so that adding to a class of many nodes is not looking through them each time.
    let products: BTreeMap<Id, Vec<(Id, Id, i64, i64)>> =
        g.classes().map(|c| (c.id, c.nodes.iter().filter_map(product).collect::<Vec<_>>())).filter(|(_, all)| !all.is_empty()).collect();
    let mut ids: Vec<Id> = g.classes().map(|c| c.id).collect();
    ids.sort_unstable();
    let mut out: BTreeMap<Key, Vec<Member>> = BTreeMap::new();
    let mut put = |x: Id, k: i64, m: Member| {
        let Some(d) = g[m.class].data.value().map(|v| v.ty.dtype) else { return };
        let group = out.entry((x, m.bias.is_some(), k, d)).or_default();
        if group.iter().all(|o| o.weight != m.weight || o.bias != m.bias) {
            group.push(m);
        }
    };
    for id in ids {
        for n in &g[id].nodes {
            if let Some((x, weight, k, columns)) = product(n) {
                put(x, k, Member { class: id, weight, bias: None, columns });
            }
            if let Node::Op(op, c) = n
                && *op == add
                && fixed(c[1])
            {
                for &(x, weight, k, columns) in products.get(&g.find(c[0])).into_iter().flatten() {
                    if dims(c[1]) == Some(vec![columns as usize]) {
                        put(x, k, Member { class: id, weight, bias: Some(g.find(c[1])), columns });
                    }
                }
            }
        }
    }
    out.retain(|_, v| v.len() > 1 && v.len() <= MOST);
    out
}

/// Applies the rule everywhere once; how many groups were joined.
pub fn apply(g: &mut EGraph) -> usize {
    let groups = find(g);
    let count = groups.len();
    for ((x, ..), members) in groups {
        let origins: Vec<_> = members
            .iter()
            .flat_map(|m| g[m.class].nodes.iter().filter_map(|n| g.analysis.made.get(n)).map(|m| m.origin.clone()).take(1))
            .collect();
        let mut site = Site::new(g, RULE.name, origins);
        let mut join = || -> Option<()> {
            let weights: Vec<Id> = members.iter().map(|m| m.weight).collect();
            let wide = site.add("concat", &weights, vec![Attr::Int(1)])?;
            let mut y = site.add("matmul", &[x, wide], vec![])?;
            let biases: Option<Vec<Id>> = members.iter().map(|m| m.bias).collect();
            if let Some(biases) = biases {
                let bias = site.add("concat", &biases, vec![Attr::Int(0)])?;
                y = site.add("add", &[y, bias], vec![])?;
            }
            let shape = site.dims(y)?;
            let mut start = 0;
            for m in &members {
                let (mut starts, mut sizes) = (vec![0; shape.len()], shape.clone());
                *starts.last_mut()? = start;
                *sizes.last_mut()? = m.columns;
                start += m.columns;
                let part = site.add("slice", &[y], vec![Attr::Ints(starts), Attr::Ints(sizes), Attr::Ints(vec![1; shape.len()])])?;
                site.join(m.class, part);
            }
            Some(())
        };
        join();
    }
    g.rebuild();
    count
}
