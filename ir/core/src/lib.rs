//! tahoma-core
