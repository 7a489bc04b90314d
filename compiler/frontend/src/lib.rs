//! tahoma-frontend
