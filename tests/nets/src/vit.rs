//! ViT-B/16 (Dosovitskiy et al. 2020, arXiv:2010.11929; `google/vit-base-patch16-224`): patches by a convolution, a class token,
//! pre-norm encoder layers, a linear head.

use crate::Size;
use crate::bert::self_attention;
use crate::ops::{Net, Window};
use tahoma_core::{DType, Program};

const EPSILON: f64 = 1e-12;

pub(crate) fn vit_b16(size: Size) -> Program {
    let (image, patch, hidden, heads) = size.pick((224, 16, 768, 12), (8, 4, 16, 2));
    let (layers, classes) = size.pick((12, 1000), (2, 10));
    let patches = (image / patch) * (image / patch);
    let mut n = Net::new("vit-b16", DType::F32);
    let x = n.input("pixel_values", &[1, 3, image, image]);
    let mut x = n.scope("embeddings", |n| {
        let x = n.conv_bias("projection", x, hidden, Window::of(patch, patch, 0));
        let x = n.reshape(x, &[1, hidden, patches]);
        let x = n.transpose(x, &[0, 2, 1]);
        let class = n.weight("class_token", &[1, 1, hidden]);
        let x = n.concat(&[class, x], 1);
        let place = n.weight("position_embeddings", &[1, patches + 1, hidden]);
        n.add(x, place)
    });
    for i in 0..layers {
        x = n.scope(&format!("layer.{i}"), |n| {
            let y = n.layer_norm("norm_before", x, EPSILON);
            let y = self_attention(n, y, heads, None);
            let x = n.add(y, x);
            let y = n.layer_norm("norm_after", x, EPSILON);
            let y = n.linear("intermediate", y, 4 * hidden);
            let y = n.scope("intermediate", |n| n.gelu(y));
            let y = n.linear("output", y, hidden);
            n.add(y, x)
        });
    }
    let x = n.layer_norm("norm", x, EPSILON);
    let x = n.slice(x, 1, 0, 1, 1);
    let x = n.reshape(x, &[1, hidden]);
    let y = n.linear("classifier", x, classes);
    n.output("logits", y);
    n.finish()
}
