//! What is remembered, and who is told: events of the trail, and mails of those that need attention. It decides
//! nothing and changes nothing else in the table.
//!
//! | module | owns |
//! | --- | --- |
//! | `trail` | recording events |
//! | `mail` | sending what needs attention |
//! | `alarm` | noticing what has been away or wrong for long |

pub(crate) mod alarm;
pub(crate) mod mail;
pub(crate) mod trail;
