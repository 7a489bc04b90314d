//! Compiles `proto/onnx.proto` to Rust without a `protoc`. Tensor bytes become `Bytes`, so decoding a mapped file copies none of them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let files = protox::compile(["proto/onnx.proto"], ["proto"])?;
    prost_build::Config::new().bytes([".onnx.TensorProto.raw_data"]).disable_comments(["."]).compile_fds(files)?;
    Ok(())
}
