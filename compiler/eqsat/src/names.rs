//! What a searched program calls its values: by the model's nodes, weights and inputs.

use crate::facts::EGraph;
use crate::found::{Block, Searched};
use crate::language::Node;
use crate::net::Net;
use egg::Id;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tahoma_core::escape::Line;
use tahoma_core::op::Kind;
use tahoma_core::{Origin, ValueId};

/// The class of the net that each of some e-classes is in.
pub(crate) fn places(g: &EGraph, net: &Net, values: &[Id]) -> Vec<Option<u32>> {
    let index: HashMap<Id, u32> = net.classes.iter().enumerate().map(|(i, c)| (g.find(c.id), i as u32)).collect();
    values.iter().map(|&id| index.get(&g.find(id)).copied()).collect()
}

/// A name for people: that of the node, or its op and place where it has none.
pub(crate) fn label(o: &Origin) -> String {
    match o {
        Origin::Node { index, name, op, .. } if name.is_empty() => format!("{}#{index}", Line::of(op)),
        Origin::Node { name, .. } | Origin::Tensor { name, .. } => Line::of(name).to_string(),
        other => other.to_string(),
    }
}

/// What the source calls its values, and which class each is in.
pub(crate) struct Names {
    places: Vec<Option<u32>>,
    makers: Vec<Option<usize>>,
    plain: Vec<bool>,
    /// Values made by ops, by class; and classes that hold any value at all.
    values: BTreeMap<u32, Vec<ValueId>>,
    all: BTreeSet<u32>,
    /// The first name of each class.
    first: BTreeMap<u32, String>,
}

impl Names {
    pub(crate) fn new(s: &Searched) -> Names {
        let main = s.source.main();
        let mut n = Names {
            places: s.values.clone(),
            makers: vec![None; main.types.len()],
            plain: vec![],
            values: BTreeMap::new(),
            all: BTreeSet::new(),
            first: BTreeMap::new(),
        };
        let mut live = vec![false; main.types.len()];
        for o in &main.outputs {
            live[o.value.index()] = true;
        }
        for node in main.nodes.iter().rev() {
            if node.results.iter().any(|r| live[r.index()]) {
                node.operands.iter().for_each(|o| live[o.index()] = true);
            }
        }
        for (i, p) in main.inputs.iter().enumerate() {
            if let Some(c) = n.places[p.value.index()] {
                n.all.insert(c);
                n.first.entry(c).or_insert_with(|| s.view.input(i, &p.name));
            }
        }
        for (i, node) in main.nodes.iter().enumerate() {
            let static_types = node.results.iter().all(|&r| main.ty(r).shape.is_static());
            let plain = !matches!(node.op.kind, Kind::Structure) && node.op.name != "weight" && static_types;
            n.plain.push(plain);
            for &r in &node.results {
                n.makers[r.index()] = Some(i);
                let Some(c) = n.places[r.index()].filter(|_| live[r.index()]) else { continue };
                n.all.insert(c);
                if plain && node.op.name != "constant" {
                    n.values.entry(c).or_default().push(r);
                }
                n.first.entry(c).or_insert_with(|| node_label(s, i));
            }
        }
        n
    }
    pub(crate) fn place(&self, v: ValueId) -> Option<u32> {
        self.places[v.index()]
    }
    pub(crate) fn maker(&self, v: ValueId) -> Option<usize> {
        self.makers[v.index()]
    }
    /// Whether a node of the source can be written as an op of the e-graph.
    pub(crate) fn plain(&self, node: usize) -> bool {
        self.plain[node]
    }
    pub(crate) fn has_source(&self, class: u32) -> bool {
        self.all.contains(&class)
    }
    pub(crate) fn values_of(&self, class: u32) -> &[ValueId] {
        self.values.get(&class).map_or(&[], Vec::as_slice)
    }
    pub(crate) fn value(&self, s: &Searched, v: ValueId) -> String {
        self.maker(v).map_or_else(|| format!("value {}", v.0), |n| node_label(s, n))
    }
    pub(crate) fn class(&self, s: &Searched, class: u32) -> String {
        self.first.get(&class).cloned().unwrap_or_else(|| match s.net.classes[class as usize].nodes.first().map(|n| &n.node) {
            Some(Node::Leaf(l)) if l.weight => format!("weight {:?}", s.view.weight(&l.name)),
            Some(Node::Leaf(l)) => l.name.to_string(),
            Some(n) => format!("{n} made by rules"),
            None => format!("class {class}"),
        })
    }
}

/// A node of the source's `main`, as it is called in the stretch that is looked at.
pub(crate) fn node_label(s: &Searched, node: usize) -> String {
    node_name(&s.source.main().nodes[node], node, &s.view)
}

/// A node: its names in the model, or its op and place.
pub(crate) fn node_name(n: &tahoma_core::Node, index: usize, view: &Block) -> String {
    if n.op.name == "weight" {
        return format!("weight {:?}", view.weight(n.attrs.str("name").unwrap_or_default()));
    }
    let names: Vec<String> = n.origin.leaves().into_iter().map(|o| label(view.origin(o))).collect();
    if names.is_empty() { format!("{}#{index}", n.op.name) } else { names.join(" + ") }
}
