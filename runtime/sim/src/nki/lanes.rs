//! Instructions that move elements between lanes or by position: transposes, shuffles, gathers, index patterns, top eight, and the
//! reduction across partitions.

use super::engines::{Done, row_row};
use super::mem::{OTHER, mark, store_f, store_i};
use super::run::Run;
use super::value::int_range;
use tahoma_machine::trn2::ops::Group;
use tahoma_machine::trn2::resolve::{Arg, Op};
use tahoma_machine::trn2::walk::At;

impl Run<'_> {
    pub(super) fn transpose(&mut self, op: &Op) -> Done {
        let (d, s) = (self.tile(op, "dst")?, self.tile(op, "data")?);
        let (parts, n) = (s.acc.parts, s.acc.n);
        if s.acc.dtype.is_int() {
            let (mut row, mut all) = (vec![], vec![]);
            for p in 0..parts {
                self.ints(op, "data", &s, p, &mut row)?;
                all.extend_from_slice(&row);
            }
            for q in 0..n {
                let column: Vec<i64> = all.iter().skip(q).step_by(n).copied().collect();
                store_i(self.store_mut(&d), &d, q, &column);
            }
        } else {
            let (mut row, mut all) = (vec![], vec![]);
            for p in 0..parts {
                self.row(op, "data", &s, p, &mut row)?;
                all.extend_from_slice(&row);
            }
            for q in 0..n {
                let mut column: Vec<f32> = all.iter().skip(q).step_by(n).copied().collect();
                store_f(self.store_mut(&d), &d, q, &mut column);
            }
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    pub(super) fn max8(&mut self, op: &Op) -> Done {
        self.map(op, "src", |_, _, row| {
            row.sort_by(|a, b| b.total_cmp(a));
            row.truncate(8);
            Ok(())
        })
    }

    pub(super) fn find_index8(&mut self, op: &Op) -> Done {
        let (d, s, v) = (self.tile(op, "dst")?, self.tile(op, "data")?, self.tile(op, "vals")?);
        let absent = int_range(d.acc.dtype).1;
        let (mut row, mut vals) = (vec![], vec![]);
        for p in 0..d.acc.parts {
            self.row(op, "data", &s, p, &mut row)?;
            self.row(op, "vals", &v, p, &mut vals)?;
            let mut out = vec![absent; 8];
            for i in 0..8 {
                // The k-th request for one value takes its k-th occurrence.
                let before = vals[..i].iter().filter(|x| **x == vals[i]).count();
                if let Some((at, _)) = row.iter().enumerate().filter(|(_, x)| **x == vals[i]).nth(before) {
                    out[i] = at as i64;
                }
            }
            store_i(self.store_mut(&d), &d, p, &out);
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    pub(super) fn shuffle(&mut self, op: &Op) -> Done {
        let (d, s) = (self.tile(op, "dst")?, self.tile(op, "src")?);
        let Some(Arg::Ints(mask)) = op.arg("shuffle_mask") else { return Ok(()) };
        let parts = d.acc.parts;
        let mut whole = true;
        if d.acc.dtype.is_int() {
            let mut rows = vec![vec![]; parts];
            for (p, r) in rows.iter_mut().enumerate() {
                self.ints(op, "src", &s, p, r)?;
            }
            for p in 0..parts {
                match (mask[p % 32], p / 32 * 32 + mask[p % 32] as usize) {
                    (255, _) => whole = false,
                    (_, from) if from < parts => store_i(self.store_mut(&d), &d, p, &rows[from]),
                    (m, _) => return Err(self.at_fault(op, "value", "shuffle_mask", format!("lane {p} takes lane {m}, which src lacks"))),
                }
            }
        } else {
            let mut rows = vec![vec![]; parts];
            for (p, r) in rows.iter_mut().enumerate() {
                self.row(op, "src", &s, p, r)?;
            }
            for p in 0..parts {
                match (mask[p % 32], p / 32 * 32 + mask[p % 32] as usize) {
                    (255, _) => whole = false,
                    (_, from) if from < parts => store_f(self.store_mut(&d), &d, p, &mut rows[from].clone()),
                    (m, _) => return Err(self.at_fault(op, "value", "shuffle_mask", format!("lane {p} takes lane {m}, which src lacks"))),
                }
            }
        }
        if whole {
            mark(self.store_mut(&d), &d, OTHER);
        }
        Ok(())
    }

    /// `offset + p·multiplier + Σ index·step` over the row's pattern.
    fn affine_row(pattern: &[[i64; 2]], base: i64, out: &mut Vec<i64>) {
        out.clear();
        out.push(base);
        for &[step, count] in pattern {
            let prefix = std::mem::take(out);
            out.extend(prefix.iter().flat_map(|b| (0..count).map(move |i| b + i * step)));
        }
    }

    pub(super) fn iota(&mut self, op: &Op) -> Done {
        let d = self.tile(op, "dst")?;
        let Some(Arg::Pattern(pattern)) = op.arg("pattern") else { return Ok(()) };
        let (offset, mult) = (self.int_arg(op, "offset", 0), self.int_arg(op, "channel_multiplier", 0));
        let mut row = vec![];
        for p in 0..d.acc.parts {
            Self::affine_row(pattern, offset + p as i64 * mult, &mut row);
            if d.acc.dtype.is_int() {
                let (lo, hi) = int_range(d.acc.dtype);
                row.iter_mut().for_each(|x| *x = (*x).clamp(lo, hi));
            }
            store_i(self.store_mut(&d), &d, p, &row);
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    pub(super) fn affine_select(&mut self, op: &Op) -> Done {
        let Some(Arg::Pattern(pattern)) = op.arg("pattern") else { return Ok(()) };
        let cmp = op.alu("cmp_op").map_or("equal", |f| f.name);
        let (offset, mult) = (self.int_arg(op, "offset", 0), self.int_arg(op, "channel_multiplier", 0));
        let no = match op.arg("on_false_value") {
            Some(Arg::Num(x)) => *x as f32,
            _ => 0.0,
        };
        let mut values = vec![];
        self.map(op, "on_true_tile", |_, p, row| {
            Self::affine_row(pattern, offset + p as i64 * mult, &mut values);
            for (x, v) in row.iter_mut().zip(&values) {
                let yes = match cmp {
                    "equal" => *v == 0,
                    "not_equal" => *v != 0,
                    "less" => *v < 0,
                    "less_equal" => *v <= 0,
                    "greater" => *v > 0,
                    _ => *v >= 0,
                };
                if !yes {
                    *x = no;
                }
            }
            Ok(())
        })
    }

    pub(super) fn partition_reduce(&mut self, op: &Op) -> Done {
        let Some(f) = op.alu("op") else { return Ok(()) };
        let (d, s) = (self.tile(op, "dst")?, self.tile(op, "data")?);
        if let (Group::Bit, Some(g)) = (f.group, f.i) {
            let (mut acc, mut row) = (vec![], vec![]);
            self.ints(op, "data", &s, 0, &mut acc)?;
            for p in 1..s.acc.parts {
                self.ints(op, "data", &s, p, &mut row)?;
                acc.iter_mut().zip(&row).for_each(|(a, &x)| *a = g(*a, x));
            }
            store_i(self.store_mut(&d), &d, 0, &acc);
        } else {
            let (mut acc, mut row) = (vec![], vec![]);
            self.row(op, "data", &s, 0, &mut acc)?;
            for p in 1..s.acc.parts {
                self.row(op, "data", &s, p, &mut row)?;
                row_row(f, false, &mut acc, &row);
            }
            store_f(self.store_mut(&d), &d, 0, &mut acc);
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    /// The row of `dst` from the row of `data` by a list of positions.
    fn pick(&mut self, op: &Op, d: &At, name: &str, s: &At, p: usize, at: &[usize]) -> Done {
        if let Some(x) = at.iter().find(|x| **x >= s.acc.n) {
            return Err(self.at_fault(op, "out-of-bounds", name, format!("index {x} of {} elements at partition {}", s.acc.n, s.p0 + p)));
        }
        if s.acc.dtype.is_int() {
            let mut row = vec![];
            self.ints(op, name, s, p, &mut row)?;
            let out: Vec<i64> = at.iter().map(|&i| row[i]).collect();
            store_i(self.store_mut(d), d, p, &out);
        } else {
            let mut row = vec![];
            self.row(op, name, s, p, &mut row)?;
            let mut out: Vec<f32> = at.iter().map(|&i| row[i]).collect();
            store_f(self.store_mut(d), d, p, &mut out);
        }
        Ok(())
    }

    pub(super) fn local_gather(&mut self, op: &Op) -> Done {
        let (d, s, x) = (self.tile(op, "dst")?, self.tile(op, "src_buffer")?, self.tile(op, "index")?);
        let epi = self.int_arg(op, "num_elem_per_idx", 1) as usize;
        let valid = self.int_arg(op, "num_valid_indices", (x.acc.n * 16) as i64) as usize;
        let mut rows = vec![vec![]; 16];
        for group in 0..d.acc.parts / 16 {
            for (q, r) in rows.iter_mut().enumerate() {
                self.ints(op, "index", &x, group * 16 + q, r)?;
            }
            let at: Vec<usize> =
                (0..valid).flat_map(|k| (0..epi).map(move |e| (k, e))).map(|(k, e)| rows[k % 16][k / 16] as usize * epi + e).collect();
            for q in 0..16 {
                self.pick(op, &d, "src_buffer", &s, group * 16 + q, &at)?;
            }
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }

    pub(super) fn n_gather(&mut self, op: &Op) -> Done {
        let (d, s, x) = (self.tile(op, "dst")?, self.tile(op, "data")?, self.tile(op, "indices")?);
        let mut idx = vec![];
        for p in 0..d.acc.parts {
            self.ints(op, "indices", &x, p, &mut idx)?;
            let at: Vec<usize> = idx.iter().map(|&i| i as usize).collect();
            self.pick(op, &d, "data", &s, p, &at)?;
        }
        mark(self.store_mut(&d), &d, OTHER);
        Ok(())
    }
}
