//! What is remembered, and who is told: events of the trail, and mails of those that need attention. It decides
//! nothing, and knows neither hosts nor sessions beyond what an event says.
//!
//! | module | owns |
//! | --- | --- |
//! | `trail` | recording events |
//! | `export` | writing the trail to a file and to the syslog |
//! | `mail` | sending what needs attention |

pub(crate) mod export;
pub(crate) mod mail;
pub(crate) mod trail;

use std::sync::Arc;

use crate::{authority::Authority, process::Process, site::Site};
use mail::Mail;
pub use trail::{Elsewhere, NotRecorded, record};
use trail::{Note, Trail};

/// The journal.
#[derive(Debug)]
pub struct Journal {
    process: Arc<Process>,
    site: Arc<Site>,
    authority: Arc<Authority>,
    /// The other node's trail, which records what this one cannot; none = there is no other node.
    other: Option<Box<dyn Elsewhere>>,
    trail: Trail,
    mail: Mail,
}

impl Journal {
    /// An empty one. Until its tasks run ([`trail::record`], [`mail::send`]) what is noted waits.
    #[must_use]
    pub fn new(
        process: Arc<Process>,
        site: Arc<Site>,
        authority: Arc<Authority>,
        other: Option<Box<dyn Elsewhere>>,
    ) -> Self {
        Self { process, site, authority, other, trail: Trail::default(), mail: Mail::default() }
    }

    /// Records an event in the trail, and mails what is worth it; each in its own time.
    pub(crate) fn note(&self, note: Note) {
        self.mail.take(note.event());
        self.trail.note(note);
    }
}
