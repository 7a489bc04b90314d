//! Numbers given for named dimensions, checked against the names that a model has.

use super::importer::{Extent, Importer, tensor_type};
use crate::proto::GraphProto;
use tahoma_core::{Diagnostic, Dim, near};

impl Importer<'_> {
    /// A number given for a dimension that no input has is a misspelt name. A dimension without a name goes by its input and axis.
    pub(super) fn check_symbols(&mut self, graph: &GraphProto) {
        let mut names: Vec<String> = vec![];
        for i in &graph.input {
            let Some((_, Some(dims))) = tensor_type(i) else { continue };
            for (k, d) in dims.into_iter().enumerate() {
                match d {
                    Some(Extent::Named(s)) if !names.contains(&s) => names.push(s),
                    None => names.push(format!("{}.{k}", i.name())),
                    _ => {}
                }
            }
        }
        // Names that a caller gave to open dimensions.
        names.extend(self.options.shapes.values().flatten().filter_map(|d| if let Dim::Sym(s) = d { Some(s.to_string()) } else { None }));
        for given in self.options.symbols.keys().filter(|s| !names.contains(s)) {
            let mut d = Diagnostic::error("E0207", format!("the model's inputs have no dimension {given:?}"));
            d.notes = near::notes(given, "open dimensions", names.iter().map(String::as_str));
            self.tell(d);
        }
    }
}
