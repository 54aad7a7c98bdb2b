//! How to get in at a session host: by a key that it takes once, or as the user does otherwise; directly, or through
//! the broker's host where the site has it so.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf, time::Duration};

use clap::Args;
use tokio::{
    io::{copy, split, stdin, stdout},
    task::JoinHandle,
};

use crate::{
    exit::{Failure, SOFTWARE},
    one_time::OneTimeKey,
    ssh::{self, Destination, Pipe, SshOptions, TRY_HOST_MAX, Target, Way},
};

/// How to get in at a session host.
#[derive(Debug)]
pub struct Door {
    /// A key that the host takes once.
    pub key: Option<OneTimeKey>,
    /// The broker through which the host is reached; none = directly.
    pub via: Option<Destination>,
    /// How long to try again while the host cannot be reached.
    pub patience: Duration,
}

impl Door {
    /// Joins the desktop of this session on its host.
    ///
    /// # Errors
    /// As [`ssh::open`].
    pub async fn open(
        &self,
        options: &SshOptions,
        to: &Destination,
        session: &str,
    ) -> Result<Pipe, Failure> {
        self.open_as(options, to, session, &Target::Session(session.to_owned())).await
    }

    /// The same, as somebody who shadows it by this right.
    ///
    /// # Errors
    /// As [`ssh::open`].
    pub async fn shadow(
        &self,
        options: &SshOptions,
        to: &Destination,
        session: &str,
        right: String,
    ) -> Result<Pipe, Failure> {
        let target = Target::Shadow { session: session.to_owned(), right };
        self.open_as(options, to, session, &target).await
    }

    async fn open_as(
        &self,
        options: &SshOptions,
        to: &Destination,
        session: &str,
        target: &Target,
    ) -> Result<Pipe, Failure> {
        let key = self.key.as_ref().map(|key| [key.login(), key.hosts()].concat());
        let Some(broker) = &self.via else {
            let way = Way { key, first: &[], patience: self.patience };
            return ssh::open_once(options, to, target, way).await;
        };
        // A proxy command of the user's may hand over a socket, which ours does not.
        let no_socket = ["-o".into(), "ProxyUseFdpass=no".into()];
        let proxy = ["-o".into(), self.proxy(options, broker, session)?];
        // The jump host is on the way to the broker; ssh refuses to be given two ways.
        let options = SshOptions { jump: None, ..options.clone() };
        let first = [proxy, no_socket].concat();
        let way = Way { key, first: &first, patience: self.patience };
        ssh::open_once(&options, to, target, way).await
    }

    /// Has ssh run `vsm relay` and speak to the session host through it.
    fn proxy(
        &self,
        options: &SshOptions,
        broker: &Destination,
        session: &str,
    ) -> Result<OsString, Failure> {
        let own = std::env::current_exe()
            .map_err(|error| Failure::new(SOFTWARE, format!("cannot find vsm: {error}")))?;
        let mut words: Vec<OsString> = vec![own.into(), "relay".into()];
        words.extend([
            "--to".into(),
            broker.to_string().into(),
            "--session".into(),
            session.into(),
        ]);
        if let Some(key) = &self.key {
            words.extend(["--one-time".into(), key.folder().into()]);
        }
        words.extend(["--ssh".into(), options.ssh.clone()]);
        words.extend(options.arguments());
        let mut command = OsString::from("ProxyCommand=");
        for (number, word) in words.iter().enumerate() {
            command.push(if number == 0 { "" } else { " " });
            command.push(quoted(word));
        }
        Ok(command)
    }
}

/// The key for the login at the session host.
#[derive(Debug)]
pub(crate) enum Key {
    Making(JoinHandle<Option<OneTimeKey>>),
    Made(Option<OneTimeKey>),
}

impl Key {
    /// Begins to make one.
    pub(crate) fn make() -> Self {
        Self::Making(tokio::spawn(OneTimeKey::make()))
    }

    /// The half that the broker is told; empty = there is none.
    pub(crate) async fn public(&mut self) -> String {
        if let Self::Making(making) = self {
            *self = Self::Made(making.await.ok().flatten());
        }
        match self {
            Self::Made(Some(key)) => key.public().to_string(),
            Self::Made(None) | Self::Making(_) => String::new(),
        }
    }

    /// The key, if the session host takes it.
    pub(crate) fn accepted(self, accepted: bool, host_keys: &[String]) -> Option<OneTimeKey> {
        let Self::Made(Some(key)) = self else { return None };
        (accepted && key.know(host_keys).is_ok()).then_some(key)
    }
}

/// A word for the shell that ssh runs a proxy command with; ssh itself replaces what stands behind a percent sign.
fn quoted(word: &OsString) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            b'%' => quoted.extend(b"%%"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

/// Arguments of the way through the broker's host, which ssh runs.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Broker
    #[arg(long)]
    to: Destination,
    /// Session whose host is wanted
    #[arg(long)]
    session: String,
    /// Folder of a key that the broker's host takes once
    #[arg(long)]
    one_time: Option<PathBuf>,
    #[command(flatten)]
    ssh: SshOptions,
}

/// Joins standard input and output to the sshd of a session's host.
///
/// # Errors
/// As [`ssh::open`].
pub async fn relay(arguments: RelayArgs) -> Result<(), Failure> {
    let RelayArgs { to, session, one_time, ssh } = arguments;
    let key = one_time.map(OneTimeKey::take).and_then(Result::ok);
    let login = key.as_ref().map(OneTimeKey::login);
    let way = Way { key: login, first: &[], patience: TRY_HOST_MAX };
    let pipe = ssh::open_once(&ssh, &to, &Target::Relay(session), way).await;
    // It is the caller's, who needs it for the session host.
    let _folder = key.map(OneTimeKey::leave);
    let (mut from, mut to) = split(pipe?);
    let (mut input, mut output) = (stdin(), stdout());
    // ssh closes neither half alone: with one of them all is over, and the pipe's own ssh ends with it.
    tokio::select! {
        biased;
        _ = copy(&mut from, &mut output) => {}
        _ = copy(&mut input, &mut to) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_proxy_command_as_they_are() {
        for (word, wanted) in
            [("plain", "'plain'"), ("it's 100%", r"'it'\''s 100%%'"), ("$(x) `y`", "'$(x) `y`'")]
        {
            assert_eq!(quoted(&word.into()), OsString::from(wanted));
        }
    }
}
