//! Lies in a manifest, as JSON: a number of another size, an entry less or more, parts of the tree exchanged. The harness of the whole
//! tells the same ones to the simulator and the emulator.

use serde_json::{Value, json};
use tahoma_core::random::Random;

/// Every place in a tree, as a JSON pointer.
fn places(v: &Value, at: String, out: &mut Vec<String>) {
    match v {
        Value::Array(a) => a.iter().enumerate().for_each(|(i, x)| places(x, format!("{at}/{i}"), out)),
        Value::Object(o) => o.iter().for_each(|(k, x)| places(x, format!("{at}/{}", k.replace('~', "~0").replace('/', "~1")), out)),
        _ => {}
    }
    out.push(at);
}

/// One lie: a number of another size, an entry less or more, two parts of the tree exchanged.
pub(crate) fn lie(tree: &mut Value, r: &mut Random) -> String {
    let numbers = [
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(3),
        json!(7),
        json!(65536),
        json!(1u64 << 31),
        json!(1u64 << 32),
        json!(1u64 << 53),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1u64 << 62),
        json!(0.5),
        json!(-0.0),
        json!("inf"),
        json!("nan"),
    ];
    let mut all = vec![];
    places(tree, String::new(), &mut all);
    let at = all[r.below(all.len())].clone();
    let other = all[r.below(all.len())].clone();
    let copy = tree.pointer(&other).cloned();
    let kinds: Vec<String> = all.iter().filter(|p| p.len() > at.len() && p.starts_with(&at)).cloned().collect();
    let Some(slot) = tree.pointer_mut(&at) else { return String::new() };
    match slot {
        Value::Number(n) => {
            let near = n.as_i64().map(|n| json!(n.wrapping_add(r.below(5) as i64 - 2)));
            *slot = near.filter(|_| r.below(3) == 0).unwrap_or_else(|| numbers[r.below(numbers.len())].clone());
            format!("{at} = {slot}")
        }
        Value::Bool(b) => {
            *b = !*b;
            format!("{at} flipped")
        }
        Value::Array(a) if !a.is_empty() => {
            let (i, j) = (r.below(a.len()), r.below(a.len()));
            match r.below(5) {
                0 => drop(a.remove(i)),
                1 => a.insert(j, a[i].clone()),
                2 => a.swap(i, j),
                3 => a.clear(),
                _ => a.push(numbers[r.below(numbers.len())].clone()),
            }
            format!("{at} rearranged")
        }
        Value::Object(o) if !o.is_empty() && r.below(3) == 0 => {
            let key = o.keys().nth(r.below(o.len())).cloned().unwrap_or_default();
            o.remove(&key);
            format!("{at} without {key}")
        }
        // A part of the tree in place of another: kernels, buffers, steps and types exchanged.
        _ => {
            let inner = kinds.get(r.below(kinds.len())).cloned().unwrap_or(at);
            if let (Some(slot), Some(copy)) = (tree.pointer_mut(&inner), copy) {
                *slot = copy;
            }
            format!("{inner} is {other}")
        }
    }
}
