//! How fast records are made durable.

use serde::Deserialize;

/// Bytes of a record.
pub(super) const RECORD_LEN: usize = 400;

/// What the measuring program prints of calls.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Speed {
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}
