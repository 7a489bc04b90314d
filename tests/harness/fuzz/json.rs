//! Damage to JSON that keeps it JSON: manifests, configurations, headers of checkpoints.

use super::draw::Draw;
use serde_json::{Value, json};

/// One to three changes somewhere below.
pub(crate) fn damage(v: &mut Value, d: &mut Draw) {
    let mut words = vec![];
    strings(v, &mut words);
    for _ in 0..1 + d.below(3) {
        change(v, &words, d);
    }
}

fn strings(v: &Value, out: &mut Vec<String>) {
    match v {
        Value::String(s) => out.push(s.clone()),
        Value::Array(a) => a.iter().for_each(|v| strings(v, out)),
        Value::Object(o) => o.iter().for_each(|(k, v)| {
            out.push(k.clone());
            strings(v, out);
        }),
        _ => {}
    }
}

fn change(v: &mut Value, words: &[String], d: &mut Draw) {
    match v {
        Value::Array(a) if !a.is_empty() && !d.chance(6) => {
            if d.chance(5) {
                return d.list(a, |_, _| {});
            }
            if let Some(x) = d.of_mut(a) {
                change(x, words, d);
            }
        }
        Value::Object(o) if !o.is_empty() && !d.chance(10) => {
            let keys: Vec<String> = o.keys().cloned().collect();
            let Some(key) = d.of(&keys).cloned() else { return };
            match d.below(12) {
                0 => drop(o.remove(&key)),
                1 => {
                    let value = o.remove(&key).unwrap_or_default();
                    o.insert(d.of(words).cloned().unwrap_or_default(), value);
                }
                _ => {
                    if let Some(x) = o.get_mut(&key) {
                        change(x, words, d);
                    }
                }
            }
        }
        Value::Number(n) if !d.chance(8) => *v = json!(d.int(n.as_i64().unwrap_or(0))),
        Value::String(_) if !d.chance(8) => {
            *v = match d.below(3) {
                0 => json!(d.text()),
                _ => json!(d.of(words)),
            }
        }
        v => {
            *v = match d.below(10) {
                0 => Value::Null,
                1 => json!(true),
                2 => json!([]),
                3 => json!({}),
                4 => json!(d.int(0)),
                5 => json!(0.5),
                6 => json!(u64::MAX),
                7 => (0..100).fold(json!(1), |v, _| json!([v])),
                8 => json!(d.text()),
                _ => json!(d.of(words)),
            }
        }
    }
}
