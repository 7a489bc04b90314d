//! tahoma-eqsat
