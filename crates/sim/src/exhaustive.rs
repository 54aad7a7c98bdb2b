//! Placeholder
/// x
#[derive(Debug)]
pub struct Search;
/// x
#[must_use]
pub const fn search() -> Search { Search }
