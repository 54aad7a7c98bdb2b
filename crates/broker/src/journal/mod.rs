//! What is remembered, and who is told: events of the trail, and mails of those that need attention. It decides
//! nothing, and knows neither hosts nor sessions beyond what an event says.
//!
//! | module | owns |
//! | --- | --- |
//! | `trail` | recording events |
//! | `mail` | sending what needs attention |

pub(crate) mod mail;
pub(crate) mod trail;
