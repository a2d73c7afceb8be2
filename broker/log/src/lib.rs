//! broker/log
