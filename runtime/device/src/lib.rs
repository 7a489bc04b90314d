//! tahoma-runtime
