//! tahoma-machine
