//! tahoma
