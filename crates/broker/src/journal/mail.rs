//! Mail to the administrators (`/vsmserver/admin_email`): what somebody should look at, a few events in one message.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};
use vsm_config::{Config, keys};
use vsm_core::{Event, NodeName};
use vsm_daemon::trouble::Kind;
use vsm_root::{
    client::Lost,
    message::{Act, Answer},
};

use super::Journal;
use crate::{helper, process::Process};

/// What is worth a mail; all else is in the trail.
const WORTH_IT: [&str; 14] = [
    "agent-trouble",
    "agent-mended",
    "broker-trouble",
    "broker-mended",
    "agent-put-aside",
    "agent-heard-again",
    "agent-lost",
    "agent-returned",
    "peer-lost",
    "peer-returned",
    "capacity-low",
    "capacity-full",
    "capacity-ok",
    "configuration-refused",
];
/// Events that wait to be sent; what is beyond is in the trail and the log.
const QUEUE_BOUND: usize = 256;
/// What happens within this time of the first event goes into the same mail.
const TOGETHER: Duration = Duration::from_secs(10);

/// Where events wait to be mailed.
#[derive(Debug)]
pub(crate) struct Mail {
    queue: Sender<Event>,
    /// The other end, until [`send`] takes it.
    events: Mutex<Option<Receiver<Event>>>,
}

impl Default for Mail {
    fn default() -> Self {
        let (queue, events) = mpsc::channel(QUEUE_BOUND);
        Self { queue, events: Mutex::new(Some(events)) }
    }
}

impl Mail {
    /// Takes an event that is worth a mail.
    pub(crate) fn take(&self, event: &Event) {
        if WORTH_IT.contains(&event.action.as_str()) {
            // Full means that a mail about as much is on its way.
            let _ = self.queue.try_send(event.clone());
        }
    }
}

/// Sends mails until the broker stops.
pub(crate) async fn send(journal: Arc<Journal>) {
    let events = journal.mail.events.lock().take();
    let Some(mut events) = events else { return };
    // Where mail goes that nobody has asked for.
    let unasked = Config::defaults().get(&keys::vsmserver::ADMIN_EMAIL);
    let sending = async {
        let mut batch = Vec::new();
        while events.recv_many(&mut batch, QUEUE_BOUND).await > 0 {
            tokio::time::sleep(TOGETHER).await;
            while let Ok(event) = events.try_recv() {
                batch.push(event);
            }
            let settings = journal.site.settings();
            if !settings.admin_email.is_empty() {
                let text = message(&journal.process.node, &settings.admin_email, &batch);
                let failed = post(&journal.process, text).await.err();
                // Nobody has asked for mail, and there is no program for it: no mail is sent, as the parameter says.
                let wanted = settings.mail_program.exists() || settings.admin_email != unasked;
                let failed = failed.filter(|_| wanted);
                let program = settings.mail_program.display();
                let what = |error| {
                    format!("no mail was sent by {program} (/vsmserver/mail_program): {error}")
                };
                journal.process.troubles.set(Kind::Mail, "", failed.map(what));
            }
            batch.clear();
        }
    };
    journal.process.stop.clone().run_until_cancelled(sending).await;
}

/// The mail as sendmail(8) reads it.
fn message(node: &NodeName, to: &[String], events: &[Event]) -> String {
    let subject = match events {
        [one] => one.action.clone(),
        many => format!("{} events", many.len()),
    };
    let mut text = format!(
        "To: {}\nSubject: VSM on {}: {subject}\nAuto-Submitted: auto-generated\nContent-Type: text/plain; charset=utf-8\n\n",
        to.join(", "),
        node
    );
    for event in events {
        let about = event.agent.as_ref().map_or_else(String::new, |agent| format!(" {agent}"));
        text.push_str(&format!("{}{about}: {}\n", event.action, event.detail));
    }
    text.push_str("\nvsmctl events has what happened around it.\n");
    text
}

/// Why no mail was sent.
#[derive(Debug, thiserror::Error)]
enum NotSent {
    /// In the helper's words.
    #[error("{0}")]
    Failed(String),
    #[error("the root helper (vsm-root) answers something else")]
    Strange,
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Has the helper give a message to the mail program that its own configuration names.
async fn post(process: &Process, text: String) -> Result<(), NotSent> {
    let asked = process.helper.ask(Act::Mail { text }, Duration::ZERO).await;
    match asked.inspect_err(|lost| helper::told(process, lost))? {
        Answer::Done => Ok(()),
        Answer::Failed(why) | Answer::Refused(why) | Answer::Unwritten(why) => {
            Err(NotSent::Failed(why))
        }
        Answer::Ran { .. } => Err(NotSent::Strange),
    }
}
