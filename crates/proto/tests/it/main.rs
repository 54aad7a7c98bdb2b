//! Conversions: what is said is what is understood, and what makes no sense is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod refusals;
mod round_trip;
