//! `vsm shadow`: look at somebody else's desktop, or work at it where its user allows that.

use std::path::PathBuf;

use clap::Args;
use vsm_proto::broker::v1::ShadowRequest;

use crate::{
    broker, connect,
    door::{Door, Key},
    exit::{Failure, SOFTWARE},
    output,
    retry::{self, RetryOptions},
    ssh::{Destination, Farewell, SshOptions, TRY_HOST_MAX},
    viewer,
};

/// The user of the desktop has 45 s to answer.
const ANSWER_DEADLINE: std::time::Duration = std::time::Duration::from_secs(90);

/// What `vsm shadow` takes.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// Host of the broker, with your login name there if it differs from the local one
    #[arg(value_name = "[USER@]HOST")]
    to: Destination,
    /// User whose desktop to shadow
    #[arg(value_name = "WHOM")]
    user: String,
    /// Which desktop, if they have several: its id
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
    /// Ask for control as well: keys, pointer and clipboard
    #[arg(long)]
    control: bool,
    /// Viewer to run; the path of a unix socket is appended to its arguments
    #[arg(long, value_name = "CMD", conflicts_with = "screenshot")]
    viewer: Option<String>,
    /// Save a picture of the desktop and exit
    #[arg(long, value_name = "FILE.png")]
    screenshot: Option<PathBuf>,
    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    ssh: SshOptions,
}

/// Runs it.
///
/// # Errors
/// With one line for the user.
pub async fn run(arguments: ShadowArgs) -> Result<(), Failure> {
    let ShadowArgs { to, user, session, control, viewer, screenshot, retry, ssh } = arguments;
    let viewer = match screenshot {
        None => viewer::ready(viewer.as_deref())?,
        Some(_) => Vec::new(),
    };
    let mut key = Key::make();
    // Not tried again once it was asked: the user of the desktop would be asked twice.
    let dial = async || broker::dial(&ssh, &to, retry.patience()).await;
    let mut broker = retry::riding(&retry, dial).await?;
    output::progress(&format!("Asking for the desktop of {user} ..."));
    let public_key = key.public().await;
    let request = ShadowRequest { user: user.clone(), session_id: session, control, public_key };
    let answer = broker.shadow(broker::with_deadline(request, ANSWER_DEADLINE)).await?.into_inner();
    let session =
        answer.session.ok_or_else(|| Failure::new(SOFTWARE, "the broker gave an empty answer"))?;
    if control && !answer.control {
        output::say("You may look, and nothing else.")?;
    }
    // As the broker knows the one who looks; one that is older does not say.
    let to = to.known_as(&answer.caller);
    let door = Door {
        key: key.accepted(answer.key_accepted, &answer.host_keys),
        via: answer.relay.then(|| to.clone()),
        patience: TRY_HOST_MAX,
    };
    let pipe = door.shadow(&ssh, &to.at(&answer.host), &session.id, answer.right).await?;
    drop((broker, door));
    if let Some(file) = screenshot {
        connect::picture(pipe, &file).await?;
        return output::write(&format!("{}\n", file.display()));
    }
    match viewer::run(&viewer, &session.id, pipe).await? {
        Farewell::Plain => Ok(()),
        Farewell::Disconnected | Farewell::Idle => output::say(&format!("{user} has ended it.")),
        Farewell::Replaced | Farewell::Ended | Farewell::Lost => {
            Err(Failure::new(SOFTWARE, format!("the desktop of {user} is gone, or the way to it")))
        }
    }
}
