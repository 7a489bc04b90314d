//! tahoma-sim
