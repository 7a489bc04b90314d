//! tahoma-codegen
