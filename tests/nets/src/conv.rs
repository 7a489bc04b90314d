//! Convolutional classifiers as torchvision builds them: ResNet-50 (He et al. 2015, arXiv:1512.03385), ResNeXt-50 32×4d (Xie et al.
//! 2016, arXiv:1611.05431), VGG-19 (Simonyan and Zisserman 2014, arXiv:1409.1556) and SqueezeNet 1.1 (Iandola et al. 2016,
//! arXiv:1602.07360). Batch norms are nodes of their own, as exported in training form.

use crate::Size;
use crate::ops::{Net, V, Window};
use tahoma_core::{DType, Program};

const EPSILON: f64 = 1e-5;

pub(crate) fn resnet50(size: Size) -> Program {
    residual("resnet50", size, 1, 1)
}

pub(crate) fn resnext50(size: Size) -> Program {
    residual("resnext50", size, 2, size.pick(32, 4))
}

/// Stages of bottlenecks whose middle is `wide` times as wide, in groups.
fn residual(name: &str, size: Size, wide: usize, groups: usize) -> Program {
    let (image, first, classes) = size.pick((224, 64, 1000), (32, 8, 10));
    let blocks = size.pick([3, 4, 6, 3], [2, 1, 1, 1]);
    let mut n = Net::new(name, DType::F32);
    let x = n.input("image", &[1, 3, image, image]);
    let x = n.conv("conv1", x, first, Window::of(7, 2, 3), 1);
    let x = n.batch_norm("norm1", x, EPSILON);
    let x = n.f("relu", x);
    let mut x = n.max_pool(x, Window::of(3, 2, 1));
    for (stage, &count) in blocks.iter().enumerate() {
        let planes = first << stage;
        for i in 0..count {
            let stride = if i == 0 && stage > 0 { 2 } else { 1 };
            let name = format!("layer{}.{i}", stage + 1);
            x = n.scope(&name, |n| bottleneck(n, x, planes, planes * wide, stride, groups, i == 0));
        }
    }
    let x = n.global_average_pool(x);
    let y = n.gemm("fc", x, classes);
    n.output("logits", y);
    n.finish()
}

fn bottleneck(n: &mut Net, x: V, planes: usize, middle: usize, stride: usize, groups: usize, project: bool) -> V {
    let y = n.conv("conv1", x, middle, Window::of(1, 1, 0), 1);
    let y = n.batch_norm("norm1", y, EPSILON);
    let y = n.f("relu", y);
    let y = n.conv("conv2", y, middle, Window::of(3, stride, 1), groups);
    let y = n.batch_norm("norm2", y, EPSILON);
    let y = n.f("relu", y);
    let y = n.conv("conv3", y, 4 * planes, Window::of(1, 1, 0), 1);
    let y = n.batch_norm("norm3", y, EPSILON);
    let x = if project {
        let x = n.conv("downsample.conv", x, 4 * planes, Window::of(1, stride, 0), 1);
        n.batch_norm("downsample.norm", x, EPSILON)
    } else {
        x
    };
    let y = n.add(y, x);
    n.f("relu", y)
}

pub(crate) fn vgg19(size: Size) -> Program {
    let (image, first, wide, classes) = size.pick((224, 64, 4096, 1000), (32, 4, 32, 10));
    let mut n = Net::new("vgg19", DType::F32);
    let mut x = n.input("image", &[1, 3, image, image]);
    for (stage, count) in [2, 2, 4, 4, 4].into_iter().enumerate() {
        for i in 0..count {
            x = n.conv_bias(&format!("features.{stage}.{i}"), x, first << stage.min(3), Window::of(3, 1, 1));
            x = n.f("relu", x);
        }
        x = n.max_pool(x, Window::of(2, 2, 0));
    }
    let mut x = n.flatten(x);
    for name in ["classifier.0", "classifier.1"] {
        x = n.gemm(name, x, wide);
        x = n.f("relu", x);
    }
    let y = n.gemm("classifier.2", x, classes);
    n.output("logits", y);
    n.finish()
}

pub(crate) fn squeezenet(size: Size) -> Program {
    let (image, divisor, classes) = size.pick((224, 1, 1000), (63, 8, 10));
    let mut n = Net::new("squeezenet", DType::F32);
    let x = n.input("image", &[1, 3, image, image]);
    let x = n.conv_bias("conv1", x, 64 / divisor, Window::of(3, 2, 0));
    let mut x = n.f("relu", x);
    // Two fires between pools, four after the last.
    for (i, squeezed) in [16, 16, 32, 32, 48, 48, 64, 64].into_iter().enumerate() {
        if matches!(i, 0 | 2 | 4) {
            x = n.max_pool(x, Window::of(3, 2, 0));
        }
        x = n.scope(&format!("fire{}", i + 2), |n| fire(n, x, squeezed / divisor));
    }
    let x = n.conv_bias("classifier", x, classes, Window::of(1, 1, 0));
    let x = n.f("relu", x);
    let y = n.global_average_pool(x);
    n.output("logits", y);
    n.finish()
}

/// A 1×1 convolution to few channels, then 1×1 and 3×3 ones to four times as many each, joined.
fn fire(n: &mut Net, x: V, squeezed: usize) -> V {
    let x = n.conv_bias("squeeze", x, squeezed, Window::of(1, 1, 0));
    let x = n.f("relu", x);
    let one = n.conv_bias("expand1x1", x, 4 * squeezed, Window::of(1, 1, 0));
    let one = n.f("relu", one);
    let three = n.conv_bias("expand3x3", x, 4 * squeezed, Window::of(3, 1, 1));
    let three = n.f("relu", three);
    n.concat(&[one, three], 1)
}
