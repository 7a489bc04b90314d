//! Runs the model that `build.rs` compiled. `cargo run -p example-build-script`

use tahoma_runtime::{Artifact, Runner, device};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: &[(&str, &'static [u8])] = &include!(concat!(env!("OUT_DIR"), "/mlp.rs"));
    let artifact = Artifact::from_bytes(files.iter().copied())?;
    let inputs = artifact
        .manifest
        .inputs
        .iter()
        .map(|p| {
            let ty = &artifact.manifest.buffers[p.buffer].ty;
            let shape = ty.shape.to_static().unwrap_or_default();
            let values = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32 / 7.0 - 0.5).collect();
            (p.name.clone(), tahoma_core::Tensor::f32(&shape, values))
        })
        .collect::<Vec<_>>();
    let (outputs, report) = Runner::new(artifact, device::open("ptx-emu")?)?.run(&inputs)?;
    println!("{} launches; {} = {}", report.launches, outputs[0].0, outputs[0].1.ty());
    Ok(())
}
