//! tahoma-cli
