//! tahoma-mlir
