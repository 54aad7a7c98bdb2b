//! .

use crate::attack::case::Case;

pub(super) fn all() -> Vec<Case> {
    Vec::new()
}
