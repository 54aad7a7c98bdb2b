//! `vsm web`: the browsers that a user is logged in with.

use clap::{Args, Subcommand};
use serde::Serialize;
use tonic::Code;
use vsm_core::WebKeyId;
use vsm_proto::broker::v1 as pb;

use crate::{
    broker::{DEADLINE, Route, with_deadline},
    exit::{Failure, NOT_FOUND, USAGE},
    output::{self, Columns, Format},
    retry::{self, RetryOptions},
    said,
    ssh::{Destination, SshOptions},
};

/// `vsm web`.
#[derive(Debug, Subcommand)]
pub enum WebCommand {
    /// List the browsers that you are logged in with
    Logins(Box<LoginsArgs>),
    /// Log a browser out, or all of them; desktops go on
    Revoke(Box<RevokeArgs>),
}

/// `vsm web logins`.
#[derive(Debug, Args)]
pub struct LoginsArgs {
    /// Broker
    #[arg(value_name = "[USER@]HOST")]
    to: Destination,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    ssh: SshOptions,
}

/// `vsm web revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Broker
    #[arg(value_name = "[USER@]HOST")]
    to: Destination,
    /// Which login: its id, or the end of it as `vsm web logins` shows it
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    ssh: SshOptions,
}

/// A login by browser as `vsm web logins` and `vsmctl web list` print it; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub struct WebLogin {
    /// Its id.
    pub id: String,
    /// Login name.
    pub user: String,
    /// When the user logged in, RFC 3339.
    pub created: Option<String>,
    /// When it ends, RFC 3339.
    pub until: Option<String>,
    /// Address and name of the browser; may be empty.
    pub asked_by: String,
    /// Who has let the user in: `sshd`, or `openid` for the site's provider.
    pub came_by: &'static str,
}

impl From<pb::WebKeyView> for WebLogin {
    fn from(view: pb::WebKeyView) -> Self {
        Self {
            id: view.id,
            user: view.user,
            created: output::time(view.created_unix_ms),
            until: output::time(view.until_unix_ms),
            asked_by: view.asked_by,
            came_by: if view.openid { "openid" } else { "sshd" },
        }
    }
}

impl Columns for WebLogin {
    const HEADINGS: &'static [&'static str] = &["LOGIN", "USER", "SINCE", "UNTIL", "BY", "BROWSER"];

    fn cells(&self) -> Vec<String> {
        let second =
            |time: &Option<String>| output::or_dash(time.as_deref().map(output::to_the_second));
        let browser = Some(self.asked_by.clone()).filter(|text| !text.is_empty());
        vec![
            output::short_id(&self.id),
            self.user.clone(),
            second(&self.created),
            second(&self.until),
            self.came_by.to_owned(),
            output::or_dash(browser),
        ]
    }
}

/// `vsm web`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such login.
pub async fn run(command: WebCommand) -> Result<(), Failure> {
    match command {
        WebCommand::Logins(arguments) => logins(*arguments).await,
        WebCommand::Revoke(arguments) => revoke(*arguments).await,
    }
}

async fn logins(LoginsArgs { to, output, retry, ssh }: LoginsArgs) -> Result<(), Failure> {
    let route = Route { to, ssh, retry };
    let rows = retry::riding(&route.retry, async || list(&route).await).await?;
    if rows.is_empty() && output == Format::Table {
        return output::say("You are not logged in with any browser.");
    }
    output::list(output, &rows)
}

async fn list(route: &Route) -> Result<Vec<WebLogin>, Failure> {
    let mut broker = route.dial().await?;
    let request = with_deadline(pb::ListWebKeysRequest {}, DEADLINE);
    let keys = broker.list_web_keys(request).await?.into_inner().keys;
    Ok(keys.into_iter().map(WebLogin::from).collect())
}

async fn revoke(RevokeArgs { to, id, retry, ssh, .. }: RevokeArgs) -> Result<(), Failure> {
    let route = Route { to, ssh, retry };
    let mut asked = false;
    let revoked = retry::riding(&route.retry, async || {
        let id = match &id {
            Some(text) if text.parse::<WebKeyId>().is_err() => {
                whole_id(&list(&route).await?, text)?
            }
            Some(id) => id.clone(),
            None => String::new(),
        };
        let again = std::mem::replace(&mut asked, true);
        let request = with_deadline(pb::RevokeWebKeyRequest { id }, DEADLINE);
        match route.dial().await?.revoke_web_key(request).await {
            Ok(answer) => Ok(answer.into_inner().revoked.len()),
            // The attempt before has done it and its answer was lost.
            Err(status) if again && status.code() == Code::NotFound => Ok(1),
            Err(status) => Err(status.into()),
        }
    })
    .await?;
    output::say(&said::logged_out(revoked))
}

/// The id of which this text is the end, or all.
pub(crate) fn whole_id(logins: &[WebLogin], text: &str) -> Result<String, Failure> {
    let fits = |login: &&WebLogin| login.id.parse::<WebKeyId>().is_ok_and(|id| id.ends_with(text));
    let fitting: Vec<&WebLogin> = logins.iter().filter(fits).collect();
    match fitting.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(Failure::new(NOT_FOUND, format!("there is no login by browser {text}"))),
        several => {
            let why = format!("{text} is the end of {} logins: give more of the id", several.len());
            Err(Failure::new(USAGE, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_named_by_the_end_of_its_id() {
        let login = |id: &str| WebLogin {
            id: id.to_owned(),
            user: String::new(),
            created: None,
            until: None,
            asked_by: String::new(),
            came_by: "sshd",
        };
        let ids = ["01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-1302099a8057"];
        let all = ids.map(login);
        assert_eq!(whole_id(&all, "b302099a8057").unwrap(), ids[0]);
        assert_eq!(whole_id(&all, "099a8057").unwrap_err().code, USAGE);
        for none in ["8057", "", "b302099a8058", "x"] {
            assert_eq!(whole_id(&all, none).unwrap_err().code, NOT_FOUND, "{none:?}");
        }
    }
}
