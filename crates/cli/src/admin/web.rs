//! `vsmctl web`: the browsers that users are logged in with.

use clap::Args;
use serde::Serialize;
use tokio_stream::StreamExt;
use tonic::{Response, Streaming};
use vsm_core::WebKeyId;
use vsm_proto::admin::v1 as pb;

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::with_deadline,
    exit::Failure,
    output::{self, Format, LongList},
    said,
    web::{WebLogin, whole_id},
};

/// `vsmctl web list`.
#[derive(Debug, Args)]
pub struct WebListArgs {
    /// Only those of this user
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
}

/// `vsmctl web revoke`.
#[derive(Debug, Args)]
pub struct WebRevokeArgs {
    /// Which login: its id, or the end of it as the list shows it
    #[arg(value_name = "ID", required_unless_present = "user")]
    id: Option<String>,
    /// All logins of this user; with ID only that one, if it is theirs
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// What `vsmctl web revoke` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct RevokedLogins {
    revoked: Vec<WebLogin>,
}

/// `vsmctl web list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn web_list(options: &AdminOptions, arguments: &WebListArgs) -> Result<(), Failure> {
    let answer = list(options, &arguments.user).await?;
    output::say_if_stale(&answer);
    let mut pages = answer.into_inner();
    let mut list = LongList::new(options.output);
    while let Some(page) = pages.next().await {
        let rows: Vec<WebLogin> = page?.keys.into_iter().map(WebLogin::from).collect();
        if !list.page(&rows)? {
            break;
        }
    }
    let count = list.end::<WebLogin>()?;
    if options.output == Format::Table {
        output::say(&format!("{count} login(s) by browser"))
    } else {
        Ok(())
    }
}

async fn list(
    options: &AdminOptions,
    user: &str,
) -> Result<Response<Streaming<pb::ListWebKeysResponse>>, Failure> {
    let request = with_deadline(pb::ListWebKeysRequest { user: user.to_owned() }, DEADLINE);
    Ok(options.dial().await?.list_web_keys(request).await?)
}

/// `vsmctl web revoke`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such login.
pub async fn web_revoke(options: &AdminOptions, arguments: &WebRevokeArgs) -> Result<(), Failure> {
    let WebRevokeArgs { id, user } = arguments;
    let user = user.clone().unwrap_or_default();
    let id = match id {
        Some(text) if text.parse::<WebKeyId>().is_err() => {
            let mut all = Vec::new();
            let mut pages = list(options, &user).await?.into_inner();
            while let Some(page) = pages.next().await {
                all.extend(page?.keys.into_iter().map(WebLogin::from));
            }
            whole_id(&all, text)?
        }
        Some(id) => id.clone(),
        None => String::new(),
    };
    let request = with_deadline(pb::RevokeWebKeysRequest { id, user }, DEADLINE);
    let answer = options.dial().await?.revoke_web_keys(request).await?.into_inner();
    let revoked = answer.revoked.into_iter().map(WebLogin::from).collect();
    output::report(options.output, &RevokedLogins { revoked }, |done| {
        said::logged_out(done.revoked.len()) + "\n"
    })
}
