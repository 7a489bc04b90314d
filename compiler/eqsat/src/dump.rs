//! The saturated e-graph as text and as a picture, both equal for equal searches.
//!
//! ```text
//! %c7 : f32[2, 4] = { add %c5 %c6 {ns=20000.4, source} | kernel<matmul add> %c0 %c2 %c6 {ns=3001.0, k0, chosen} }
//! ```
//!
//! One line for each class, in dependency order from the outputs. Each node names the rule that made it and its time. What leads back to
//! its own class is marked `cycle`: extraction leaves it out.

use crate::found::{Search, Searched};
use crate::language::{AttrLeaf, Node};
use crate::net::What;
use egg::{Id, Language};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use tahoma_core::Attrs;
use tahoma_core::escape::{Label, shown};

/// A node of a class as both forms print it.
struct Row {
    text: String,
    needs: Vec<String>,
    /// Its time, its rule, its kernel.
    about: Vec<String>,
    chosen: bool,
}

struct Dump<'a> {
    s: &'a Searched,
    live: BTreeSet<u32>,
    index: HashMap<Id, u32>,
}

fn attrs_text(attrs: &Attrs) -> String {
    let one = |(name, a): (&std::sync::Arc<str>, &tahoma_core::Attr)| format!("{name}={}", Node::Attr(AttrLeaf::new(a.clone())));
    attrs.0.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl<'a> Dump<'a> {
    fn new(s: &'a Searched) -> Dump<'a> {
        let index = s.net.classes.iter().enumerate().map(|(i, c)| (s.egraph.find(c.id), i as u32)).collect();
        Dump { s, live: s.live().into_iter().collect(), index }
    }
    fn name(&self, id: Id) -> String {
        let id = self.s.egraph.find(id);
        self.index.get(&id).map_or_else(|| format!("%e{id}"), |i| format!("%c{i}"))
    }
    fn node_text(&self, n: &Node, attrs: Option<&Attrs>) -> String {
        match attrs.map(attrs_text).filter(|t| !t.is_empty()) {
            Some(t) => shown(&format!("{n}<{t}>")),
            None => shown(&n.to_string()),
        }
    }
    fn rule(&self, n: &Node) -> String {
        match (n, self.s.net.made.get(n).map(|m| m.rule)) {
            (_, Some(Some(rule))) => rule.to_string(),
            (_, Some(None)) => "source".into(),
            (Node::Leaf(l), None) if l.weight => "weight".into(),
            (Node::Leaf(_), None) => "input".into(),
            _ => "rules".into(),
        }
    }
    fn rows(&self, class: u32) -> Vec<Row> {
        let s = self.s;
        let c = &s.net.classes[class as usize];
        let mut out = vec![];
        for (i, w) in c.ways.iter().enumerate() {
            let chosen = self.live.contains(&class) && s.choice.way[class as usize] as usize == i;
            let mut about = vec![format!("ns={:.1}", w.ns)];
            let text = match &w.what {
                What::Node(k) => {
                    let n = &c.nodes[*k as usize];
                    about.push(self.rule(&n.node));
                    match &n.node {
                        Node::Leaf(l) if l.weight => shown(s.view.weight(&l.name)),
                        node => self.node_text(node, n.attrs.as_deref()),
                    }
                }
                What::Kernel(k) => {
                    about.extend(s.kernel_of(class).filter(|_| chosen).map(String::from));
                    format!("kernel<{}>", k.body.summary())
                }
            };
            out.push(Row { text, needs: w.needs.iter().map(|k| format!("%c{k}")).collect(), about, chosen });
        }
        if s.saturated {
            let clean = |n: &Node| n.clone().map_children(|k| s.egraph.find(k));
            let kept: BTreeSet<Node> = c.nodes.iter().map(|n| clean(&n.node)).collect();
            let constant = matches!(c.nodes.as_slice(), [n] if n.node.to_string() == "constant");
            let mut rest: Vec<Node> = s.egraph[s.egraph.find(c.id)].nodes.iter().map(clean).collect();
            rest.sort();
            rest.dedup();
            for n in rest.iter().filter(|n| !matches!(n, Node::Kernel(..)) && !kept.contains(n)) {
                let attrs = crate::facts::attrs(&s.egraph, n);
                // A constant needs no other way; otherwise the way back to the class is why it is not taken.
                let why = if constant { "folded" } else { "cycle" };
                let needs = n.operands().iter().map(|&k| self.name(k)).collect();
                out.push(Row { text: self.node_text(n, attrs.as_ref()), needs, about: vec![why.into(), self.rule(n)], chosen: false });
            }
        }
        out
    }
}

/// The e-graph as text; one after another where stretches of the program were searched by themselves.
pub fn text(search: &Search) -> String {
    let several = search.units.len() > 1;
    let mut out = String::new();
    for (i, unit) in search.units.iter().enumerate() {
        if several {
            let _ = writeln!(out, "// stretch {i}: {}", unit.title());
        }
        one(&unit.searched, &mut out);
    }
    out
}

fn one(s: &Searched, out: &mut String) {
    let d = Dump::new(s);
    let _ = writeln!(
        out,
        "// e-graph of @{}: {} classes from the outputs, {} e-nodes in all, search ended: {}; chosen {:.1} ns",
        shown(&s.source.main().name),
        s.net.classes.len(),
        s.report.e_nodes,
        s.report.stopped,
        s.choice.ns
    );
    for (i, c) in s.net.classes.iter().enumerate() {
        let ty = c.ty.as_ref().map_or("several".into(), |t| t.to_string());
        let row = |r: &Row| {
            let mut about = r.about.join(", ");
            if r.chosen {
                about += ", chosen";
            }
            let needs: String = r.needs.iter().map(|n| format!(" {n}")).collect();
            format!("{}{needs} {{{about}}}", r.text)
        };
        let rows: Vec<String> = d.rows(i as u32).iter().map(row).collect();
        let _ = writeln!(out, "%c{i} : {ty} = {{ {} }}", rows.join(" | "));
    }
    let roots: Vec<String> = s.net.roots.iter().map(|r| format!("%c{r}")).collect();
    let _ = writeln!(out, "return {}", roots.join(" "));
}

/// The e-graph as a graph of Graphviz: a box for each class, chosen nodes filled, edges from a node to the classes it needs.
pub fn dot(search: &Search) -> String {
    let mut out = String::from("digraph egraph {\n  compound=true; rankdir=BT; node [shape=box, style=rounded, fontsize=10];\n");
    for (i, unit) in search.units.iter().enumerate() {
        if search.units.len() > 1 {
            let _ = writeln!(out, "  // stretch {i}: {}", unit.title());
        }
        cluster(&unit.searched, &format!("u{i}_"), &mut out);
    }
    out + "}\n"
}

fn cluster(s: &Searched, prefix: &str, out: &mut String) {
    let d = Dump::new(s);
    let mut edges = String::new();
    for (i, c) in s.net.classes.iter().enumerate() {
        let ty = c.ty.as_ref().map_or("several".into(), |t| t.to_string());
        let pen = if d.live.contains(&(i as u32)) { "color=darkgreen; penwidth=2" } else { "color=gray" };
        let _ = writeln!(out, "  subgraph \"cluster_{prefix}c{i}\" {{ label={}; fontsize=9; {pen};", Label(&format!("%c{i} : {ty}")));
        for (k, r) in d.rows(i as u32).iter().enumerate() {
            let fill = if r.chosen { ", style=\"rounded,filled\", fillcolor=palegreen" } else { "" };
            let _ = writeln!(out, "    \"{prefix}c{i}_{k}\" [label={}{fill}];", Label(&format!("{}\n{}", r.text, r.about.join(", "))));
            for n in &r.needs {
                let colour = if r.chosen { "" } else { ", color=gray" };
                match n.strip_prefix("%c") {
                    Some(n) => {
                        let tail = format!("ltail=\"cluster_{prefix}c{n}\"");
                        let _ = writeln!(edges, "  \"{prefix}c{n}_0\" -> \"{prefix}c{i}_{k}\" [{tail}{colour}];");
                    }
                    None => {
                        let _ = writeln!(edges, "  {} -> \"{prefix}c{i}_{k}\" [style=dotted{colour}];", Label(&format!("{prefix}{n}")));
                    }
                }
            }
        }
        *out += "  }\n";
    }
    *out += &edges;
}
