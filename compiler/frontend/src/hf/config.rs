//! `config.json`: each key is read once, with its type; keys nobody read and nobody may ignore are errors, because a key that changes
//! the model and is overlooked gives wrong answers in silence.

use crate::json::Json;
use std::collections::BTreeSet;
use tahoma_core::Diagnostic;

pub(crate) struct Config {
    keys: Vec<(String, Json)>,
    read: BTreeSet<String>,
    faults: Vec<Diagnostic>,
}

/// Largest size accepted; sizes multiply into allocations.
const MAX_SIZE: u64 = 1 << 24;

impl Config {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Config, Diagnostic> {
        let json =
            Json::parse(bytes).map_err(|e| Diagnostic::error("E0108", format!("config.json is not valid JSON: {e}")).caused_by(e))?;
        match json {
            Json::Object(keys) => Ok(Config { keys, read: BTreeSet::new(), faults: vec![] }),
            _ => Err(Diagnostic::error("E0108", "config.json must hold one object")),
        }
    }
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|k| k.0 == key)
    }
    fn get(&mut self, key: &str) -> Option<Json> {
        self.read.insert(key.into());
        self.keys.iter().find(|k| k.0 == key).map(|k| k.1.clone()).filter(|v| *v != Json::Null)
    }
    fn fault(&mut self, key: &str, why: &str) {
        self.faults.push(Diagnostic::error("E0108", format!("config.json: {key:?} {why}")));
    }
    pub(crate) fn text(&mut self, key: &str) -> Result<String, Diagnostic> {
        match self.get(key) {
            Some(Json::Str(s)) => Ok(s),
            Some(_) => Err(Diagnostic::error("E0108", format!("config.json: {key:?} must be a string"))),
            None => Err(Diagnostic::error("E0108", format!("config.json has no {key:?}"))),
        }
    }
    /// A positive whole number; a fault is noted and 1 returned otherwise.
    pub(crate) fn size(&mut self, key: &str) -> usize {
        match self.get(key) {
            Some(v) => match v.count().filter(|n| (1..=MAX_SIZE).contains(n)) {
                Some(n) => return n as usize,
                None => self.fault(key, &format!("must be a whole number from 1 to {MAX_SIZE}")),
            },
            None => self.fault(key, "is missing"),
        }
        1
    }
    pub(crate) fn number(&mut self, key: &str) -> f64 {
        match self.get(key) {
            Some(v) => match v.number().filter(|x| x.is_finite()) {
                Some(x) => return x,
                None => self.fault(key, "must be a number"),
            },
            None => self.fault(key, "is missing"),
        }
        0.0
    }
    /// A string out of those this architecture has; `default` where it is absent.
    pub(crate) fn choice(&mut self, key: &str, default: &str, all: &[&str]) -> String {
        match self.get(key) {
            None => default.into(),
            Some(Json::Str(s)) if all.contains(&s.as_str()) => s,
            Some(v) => {
                let shown = v.str().map_or("a value of another type".to_string(), |s| format!("{s:?}"));
                self.fault(key, &format!("is {shown}; supported: {}", all.join(", ")));
                default.into()
            }
        }
    }
    /// A flag that must have the value that the builder computes.
    pub(crate) fn must_be(&mut self, key: &str, want: bool) {
        match self.get(key) {
            None => {}
            Some(Json::Bool(b)) if b == want => {}
            Some(_) => self.fault(key, &format!("must be {want}: the other form is not supported")),
        }
    }
    /// The faults found, and every key that was neither read nor may be ignored.
    pub(crate) fn faults(&mut self, own: &[&str], common: &[&str]) -> Vec<Diagnostic> {
        let mut out = std::mem::take(&mut self.faults);
        for (k, _) in &self.keys {
            if !self.read.contains(k) && !own.contains(&k.as_str()) && !common.contains(&k.as_str()) {
                let d = Diagnostic::error("E0108", format!("config.json: {k:?} is not a key this architecture knows"));
                out.push(d.note("ignoring a key that changes the model would give wrong answers in silence"));
            }
        }
        out
    }
}
