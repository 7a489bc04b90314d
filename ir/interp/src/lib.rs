//! tahoma-interp
