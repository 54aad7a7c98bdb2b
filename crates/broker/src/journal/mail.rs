//! Mail to the administrators (`/vsmserver/admin_email`): what somebody should look at, a few events in one message.

use std::{io, path::Path, process::Stdio, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    sync::mpsc::{self, Receiver, Sender},
};
use vsm_config::{Config, keys};
use vsm_core::{Event, NodeName};
use vsm_daemon::{program, trouble::Kind};

use super::Journal;

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
/// How long the mail program may take.
const SEND_MAX: Duration = Duration::from_secs(60);

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
                let failed = post(&settings.mail_program, text).await.err();
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

/// Gives a message to the mail program.
async fn post(path: &Path, text: String) -> io::Result<()> {
    program::check(path).map_err(io::Error::other)?;
    let mut command = Command::new(path);
    command.args(["-t", "-oi"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let sent = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            match input.write_all(text.as_bytes()).await {
                // It does not read to the end: how it ends says whether that was meant.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        child.wait().await
    };
    match tokio::time::timeout(SEND_MAX, sent).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(io::Error::other(status.to_string())),
        Ok(Err(error)) => Err(error),
        Err(late) => Err(late.into()),
    }
}
