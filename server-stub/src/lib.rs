//! server-stub
