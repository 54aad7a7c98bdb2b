//! `vsmctl web`: the browsers that users are logged in with.

use clap::Args;
use serde::Serialize;
use tokio_stream::StreamExt;
use vsm_proto::admin::v1 as pb;

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::with_deadline,
    exit::Failure,
    output::{self, Format, LongList},
    web::WebLogin,
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
    /// Which login, by its whole id
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
    let request = pb::ListWebKeysRequest { user: arguments.user.clone() };
    let answer = options.dial().await?.list_web_keys(with_deadline(request, DEADLINE)).await?;
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

/// `vsmctl web revoke`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such login.
pub async fn web_revoke(options: &AdminOptions, arguments: &WebRevokeArgs) -> Result<(), Failure> {
    let WebRevokeArgs { id, user } = arguments;
    let (id, user) = (id.clone().unwrap_or_default(), user.clone().unwrap_or_default());
    let request = with_deadline(pb::RevokeWebKeysRequest { id, user }, DEADLINE);
    let answer = options.dial().await?.revoke_web_keys(request).await?.into_inner();
    let revoked = answer.revoked.into_iter().map(WebLogin::from).collect();
    output::report(options.output, &RevokedLogins { revoked }, |done| {
        format!("{} browser(s) logged out.\n", done.revoked.len())
    })
}
