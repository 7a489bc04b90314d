//! NASNet-A (Zoph et al. 2017, arXiv:1707.07012) in the form that TASO and TENSAT optimise: three stacks of normal cells, each closed
//! by a reduction cell, every separable convolution applied once, every cell joining all five sums. It ends in feature maps.
//!
//! The operations of the cells are those of figure 4 of the paper; a convolution is relu, convolution, batch norm.

use crate::Size;
use crate::ops::{Net, V, Window};
use tahoma_core::{DType, Program};

const EPSILON: f64 = 1e-3;

pub(crate) fn nasnet_a(size: Size) -> Program {
    let (image, stem, first, cells) = size.pick((224, 64, 128, 5), (32, 4, 4, 2));
    let mut n = Net::new("nasnet-a", DType::F32);
    let x = n.input("image", &[1, 3, image, image]);
    let x = n.conv("stem", x, stem, Window::of(7, 2, 3), 1);
    let x = n.batch_norm("stem.norm", x, EPSILON);
    let x = n.f("relu", x);
    let mut x = n.max_pool(x, Window::of(3, 2, 1));
    let mut channels = first;
    for stack in 0..3 {
        let (mut prev, mut cur) = (x, x);
        for i in 0..cells {
            let y = n.scope(&format!("stack.{stack}.normal.{i}"), |n| normal(n, prev, cur, channels));
            (prev, cur) = (cur, y);
        }
        channels *= 2;
        x = n.scope(&format!("stack.{stack}.reduction"), |n| reduction(n, prev, cur, channels));
    }
    n.output("features", x);
    n.finish()
}

/// A 1×1 convolution to the cell's channels.
fn squeeze(n: &mut Net, name: &str, x: V, channels: usize) -> V {
    n.scope(name, |n| {
        let y = n.f("relu", x);
        let y = n.conv("conv", y, channels, Window::of(1, 1, 0), 1);
        n.batch_norm("norm", y, EPSILON)
    })
}

fn separable(n: &mut Net, name: &str, x: V, kernel: usize, stride: usize) -> V {
    n.scope(name, |n| {
        let channels = n.dims(x)[1];
        let y = n.f("relu", x);
        let y = n.conv("depthwise", y, channels, Window::same([kernel; 2], stride), channels);
        let y = n.conv("pointwise", y, channels, Window::of(1, 1, 0), 1);
        n.batch_norm("norm", y, EPSILON)
    })
}

fn normal(n: &mut Net, prev: V, cur: V, channels: usize) -> V {
    let cur = squeeze(n, "cur", cur, channels);
    let prev = squeeze(n, "prev", prev, channels);
    let window = Window::of(3, 1, 1);
    let pairs = [
        (separable(n, "0.left", cur, 3, 1), cur),
        (separable(n, "1.left", prev, 3, 1), separable(n, "1.right", cur, 5, 1)),
        (n.average_pool(cur, window), prev),
        (n.average_pool(prev, window), n.average_pool(prev, window)),
        (separable(n, "4.left", prev, 5, 1), separable(n, "4.right", prev, 3, 1)),
    ];
    let sums = pairs.map(|(x, y)| n.add(x, y));
    n.concat(&sums, 1)
}

fn reduction(n: &mut Net, prev: V, cur: V, channels: usize) -> V {
    let cur = squeeze(n, "cur", cur, channels);
    let prev = squeeze(n, "prev", prev, channels);
    let window = Window::of(3, 2, 1);
    let (x, y) = (separable(n, "0.left", prev, 7, 2), separable(n, "0.right", cur, 5, 2));
    let first = n.add(x, y);
    let (x, y) = (n.max_pool(cur, window), separable(n, "1.right", prev, 7, 2));
    let second = n.add(x, y);
    let (x, y) = (n.average_pool(cur, window), separable(n, "2.right", prev, 5, 2));
    let third = n.add(x, y);
    let (x, y) = (n.max_pool(cur, window), separable(n, "3.right", first, 3, 1));
    let fourth = n.add(x, y);
    let x = n.average_pool(first, Window::of(3, 1, 1));
    let fifth = n.add(x, second);
    n.concat(&[first, second, third, fourth, fifth], 1)
}
