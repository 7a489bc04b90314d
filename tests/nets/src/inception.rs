//! Inception v3 (Szegedy et al. 2015, arXiv:1512.00567) as torchvision builds it, without the auxiliary head.

use crate::Size;
use crate::ops::{Net, V, Window};
use tahoma_core::{DType, Program};

/// The network with the divisor of its channels.
struct Inception {
    n: Net,
    divisor: usize,
}

pub(crate) fn inception_v3(size: Size) -> Program {
    let (image, classes) = size.pick((299, 1000), (75, 10));
    let mut i = Inception { n: Net::new("inception-v3", DType::F32), divisor: size.pick(1, 16) };
    let x = i.n.input("image", &[1, 3, image, image]);
    let x = i.conv("conv_1a", x, 32, Window::of(3, 2, 0));
    let x = i.conv("conv_2a", x, 32, Window::of(3, 1, 0));
    let x = i.conv("conv_2b", x, 64, Window::of(3, 1, 1));
    let x = i.n.max_pool(x, Window::of(3, 2, 0));
    let x = i.conv("conv_3b", x, 80, Window::of(1, 1, 0));
    let x = i.conv("conv_4a", x, 192, Window::of(3, 1, 0));
    let mut x = i.n.max_pool(x, Window::of(3, 2, 0));
    for (name, pool) in [("mixed_5b", 32), ("mixed_5c", 64), ("mixed_5d", 64)] {
        x = i.block(name, |i| i.wide_five(x, pool));
    }
    x = i.block("mixed_6a", |i| i.shrink_three(x));
    for (name, channels) in [("mixed_6b", 128), ("mixed_6c", 160), ("mixed_6d", 160), ("mixed_6e", 192)] {
        x = i.block(name, |i| i.wide_seven(x, channels));
    }
    x = i.block("mixed_7a", |i| i.shrink_seven(x));
    for name in ["mixed_7b", "mixed_7c"] {
        x = i.block(name, |i| i.forked(x));
    }
    let mut n = i.n;
    let x = n.global_average_pool(x);
    let y = n.gemm("fc", x, classes);
    n.output("logits", y);
    n.finish()
}

const ONE: [usize; 2] = [1, 1];
const THREE: [usize; 2] = [3, 3];
const FIVE: [usize; 2] = [5, 5];
const ROW: [usize; 2] = [1, 7];
const COLUMN: [usize; 2] = [7, 1];

impl Inception {
    /// Convolution, batch norm, relu.
    fn conv(&mut self, name: &str, x: V, channels: usize, w: Window) -> V {
        let channels = channels / self.divisor;
        self.n.scope(name, |n| {
            let y = n.conv("conv", x, channels, w, 1);
            let y = n.batch_norm("norm", y, 1e-3);
            n.f("relu", y)
        })
    }
    /// Convolutions after each other that keep the extents, by kernel and channels.
    fn chain(&mut self, name: &str, mut x: V, steps: &[([usize; 2], usize)]) -> V {
        for (i, &(kernel, channels)) in steps.iter().enumerate() {
            x = self.conv(&format!("{name}.{i}"), x, channels, Window::same(kernel, 1));
        }
        x
    }
    fn pooled(&mut self, x: V, channels: usize) -> V {
        let y = self.n.average_pool(x, Window::of(3, 1, 1));
        self.conv("pool", y, channels, Window::of(1, 1, 0))
    }
    /// The branches of a block, joined.
    fn block(&mut self, name: &str, branches: impl FnOnce(&mut Inception) -> Vec<V>) -> V {
        self.n.enter(name);
        let parts = branches(self);
        let y = self.n.concat(&parts, 1);
        self.n.leave();
        y
    }

    /// torchvision's InceptionA.
    fn wide_five(&mut self, x: V, pool: usize) -> Vec<V> {
        vec![
            self.chain("b1", x, &[(ONE, 64)]),
            self.chain("b5", x, &[(ONE, 48), (FIVE, 64)]),
            self.chain("b3", x, &[(ONE, 64), (THREE, 96), (THREE, 96)]),
            self.pooled(x, pool),
        ]
    }
    /// torchvision's InceptionB.
    fn shrink_three(&mut self, x: V) -> Vec<V> {
        let w = Window::of(3, 2, 0);
        let y = self.chain("b3", x, &[(ONE, 64), (THREE, 96)]);
        vec![self.conv("b1", x, 384, w), self.conv("b3.2", y, 96, w), self.n.max_pool(x, w)]
    }
    /// torchvision's InceptionC.
    fn wide_seven(&mut self, x: V, c: usize) -> Vec<V> {
        vec![
            self.chain("b1", x, &[(ONE, 192)]),
            self.chain("b7", x, &[(ONE, c), (ROW, c), (COLUMN, 192)]),
            self.chain("b7x2", x, &[(ONE, c), (COLUMN, c), (ROW, c), (COLUMN, c), (ROW, 192)]),
            self.pooled(x, 192),
        ]
    }
    /// torchvision's InceptionD.
    fn shrink_seven(&mut self, x: V) -> Vec<V> {
        let w = Window::of(3, 2, 0);
        let a = self.chain("b3", x, &[(ONE, 192)]);
        let b = self.chain("b7", x, &[(ONE, 192), (ROW, 192), (COLUMN, 192)]);
        vec![self.conv("b3.1", a, 320, w), self.conv("b7.3", b, 192, w), self.n.max_pool(x, w)]
    }
    /// torchvision's InceptionE.
    fn forked(&mut self, x: V) -> Vec<V> {
        let one = self.chain("b1", x, &[(ONE, 320)]);
        let a = self.chain("b3", x, &[(ONE, 384)]);
        let a = self.fork("b3", a);
        let b = self.chain("b3x2", x, &[(ONE, 448), (THREE, 384)]);
        let b = self.fork("b3x2", b);
        vec![one, a, b, self.pooled(x, 192)]
    }
    fn fork(&mut self, name: &str, x: V) -> V {
        let row = self.conv(&format!("{name}.row"), x, 384, Window::same([1, 3], 1));
        let column = self.conv(&format!("{name}.column"), x, 384, Window::same([3, 1], 1));
        self.n.concat(&[row, column], 1)
    }
}
