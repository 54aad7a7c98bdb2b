//! Connections to sshd: on the broker, and on the host of a session.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use russh::{
    Channel, ChannelMsg, ChannelReadHalf, ChannelStream, ChannelWriteHalf,
    client::{self, AuthResult, KeyboardInteractiveAuthResponse},
    keys::{
        PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate,
        ssh_key::private::{Ed25519Keypair, KeypairData},
    },
};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use crate::error::Refused;

/// A host that has not answered by then is not there.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// One that has sshd may be slow to say yes or no: PAM asks others.
const LOGIN_MAX: Duration = Duration::from_secs(60);
/// `vsm-login` answers in milliseconds; what it asks may take longer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Longest line that it answers with.
const LINE_MAX: usize = 4096;
/// A host that went away is noticed after three of them.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// The seed of a private key of ed25519.
pub(crate) const SEED: usize = 32;
/// sshd asks for more at once in no stack that there is.
const PROMPTS_MAX: usize = 16;

/// The pipe that a subsystem gives.
pub(crate) type Pipe = ChannelStream<client::Msg>;

/// A connection.
pub(crate) struct Ssh {
    handle: client::Handle<Known>,
    host: String,
    /// Whether sshd has asked something itself: then it is not asked for a password as well.
    asked: bool,
}

/// Keys that the host may have, each as kind and base64 text.
#[derive(Debug)]
struct Known(Vec<String>);

impl client::Handler for Known {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let text = key.to_openssh().unwrap_or_default();
        let shown: Vec<_> = text.split_whitespace().take(2).collect();
        let is_shown = |known: &String| known.split_whitespace().take(2).eq(shown.iter().copied());
        Ok(shown.len() == 2 && self.0.iter().any(is_shown))
    }
}

/// One question of sshd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) text: String,
    /// Whether what is typed may be seen.
    pub(crate) echo: bool,
}

/// How far a login has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The user is let in.
    In,
    /// This is to be answered first.
    Ask {
        /// What stands above the questions.
        heading: String,
        /// The questions.
        prompts: Vec<Prompt>,
    },
    /// sshd wants a password and leaves the question to us.
    Password,
}

/// A private key from its seed.
///
/// # Errors
/// None that can come: the key has no comment that could be wrong.
pub(crate) fn key(seed: &Zeroizing<[u8; SEED]>) -> Result<PrivateKey, Refused> {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(seed));
    PrivateKey::new(pair, "").map_err(|error| Refused::Broke(error.to_string()))
}

/// Its public half, as in an authorized_keys file.
pub(crate) fn public(key: &PrivateKey) -> Result<String, Refused> {
    let text = key.public_key().to_openssh();
    let text = text.map_err(|error| Refused::Broke(error.to_string()))?;
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn config() -> Arc<client::Config> {
    Arc::new(client::Config {
        keepalive_interval: Some(KEEPALIVE),
        nodelay: true,
        // Of each desktop so many pieces wait here, and then the host waits.
        channel_buffer_size: 16,
        ..client::Config::default()
    })
}

impl Ssh {
    /// Connects to a host that has one of these keys.
    pub(crate) async fn connect(
        host: &str,
        port: u16,
        known: Vec<String>,
    ) -> Result<Self, Refused> {
        let dialled = client::connect(config(), (host, port), Known(known));
        let no_route = |why: String| Refused::NoRoute { host: host.to_owned(), why };
        match tokio::time::timeout(CONNECT_MAX, dialled).await {
            Ok(Ok(handle)) => Ok(Self { handle, host: host.to_owned(), asked: false }),
            Ok(Err(russh::Error::UnknownKey)) => {
                Err(Refused::StrangeHost { host: host.to_owned() })
            }
            Ok(Err(error)) => Err(no_route(error.to_string())),
            Err(_) => Err(no_route("it does not answer".to_owned())),
        }
    }

    /// The same over a pipe that leads there.
    pub(crate) async fn over(pipe: Pipe, host: &str, known: Vec<String>) -> Result<Self, Refused> {
        let met = client::connect_stream(config(), pipe, Known(known));
        match tokio::time::timeout(CONNECT_MAX, met).await {
            Ok(Ok(handle)) => Ok(Self { handle, host: host.to_owned(), asked: false }),
            Ok(Err(russh::Error::UnknownKey)) => {
                Err(Refused::StrangeHost { host: host.to_owned() })
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Refused::Broke("the session's host does not answer".to_owned())),
        }
    }

    /// Begins to log in as somebody, by whatever sshd asks for.
    pub(crate) async fn begin(&mut self, user: &str) -> Result<Step, Refused> {
        let started = self.handle.authenticate_keyboard_interactive_start(user, None::<String>);
        let answer = in_time(LOGIN_MAX, started).await?;
        self.step(answer).await
    }

    /// Answers what was asked.
    pub(crate) async fn answer(&mut self, answers: Vec<String>) -> Result<Step, Refused> {
        let sent = self.handle.authenticate_keyboard_interactive_respond(answers);
        let answer = in_time(LOGIN_MAX, sent).await?;
        self.step(answer).await
    }

    /// Logs in by a password alone.
    pub(crate) async fn password(&mut self, user: &str, password: &str) -> Result<Step, Refused> {
        let sent = self.handle.authenticate_password(user, password);
        match in_time(LOGIN_MAX, sent).await? {
            AuthResult::Success => Ok(Step::In),
            AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty() => {
                Err(closed())
            }
            AuthResult::Failure { .. } => Err(Refused::NotLetIn),
        }
    }

    async fn step(&mut self, mut answer: KeyboardInteractiveAuthResponse) -> Result<Step, Refused> {
        use KeyboardInteractiveAuthResponse as Answer;
        // PAM may tell something and ask nothing, as that a password has run out, several times.
        let mut told = Vec::new();
        for _ in 0..PROMPTS_MAX {
            match answer {
                Answer::Success => return Ok(Step::In),
                Answer::Failure { remaining_methods, partial_success } => {
                    let by_password = remaining_methods.contains(&russh::MethodKind::Password);
                    return if by_password && !partial_success && !self.asked {
                        Ok(Step::Password)
                    } else {
                        Err(Refused::NotLetIn)
                    };
                }
                Answer::InfoRequest { name, instructions, prompts } => {
                    self.asked = true;
                    told.extend([name, instructions].into_iter().filter(|text| !text.is_empty()));
                    if !prompts.is_empty() && prompts.len() <= PROMPTS_MAX {
                        let one = |prompt: client::Prompt| Prompt {
                            text: prompt.prompt,
                            echo: prompt.echo,
                        };
                        let prompts = prompts.into_iter().map(one).collect();
                        return Ok(Step::Ask { heading: told.join("\n"), prompts });
                    }
                    let none = self.handle.authenticate_keyboard_interactive_respond(Vec::new());
                    answer = in_time(LOGIN_MAX, none).await?;
                }
            }
        }
        Err(Refused::NotLetIn)
    }

    /// Logs in by a key; whether it is taken.
    pub(crate) async fn by_key(&mut self, user: &str, key: PrivateKey) -> Result<bool, Refused> {
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        match in_time(LOGIN_MAX, self.handle.authenticate_publickey(user, key)).await? {
            AuthResult::Success => Ok(true),
            AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty() => {
                Err(closed())
            }
            AuthResult::Failure { .. } => Ok(false),
        }
    }

    /// Has `vsm-login` join a pipe to what `preface` says.
    pub(crate) async fn join(&self, preface: &str) -> Result<Pipe, Refused> {
        let joined = async {
            let mut pipe = self.subsystem(preface).await?.into_stream();
            let mut line = Vec::new();
            loop {
                match pipe.read_u8().await? {
                    b'\n' => break,
                    byte if line.len() < LINE_MAX => line.push(byte),
                    _ => return Err(Refused::Broke("its answer is too long".to_owned())),
                }
            }
            answered(&line)?;
            Ok(pipe)
        };
        tokio::time::timeout(ANSWER_MAX, joined).await.map_err(|_| self.silent())?
    }

    /// The same, and its exit code is heard of too.
    pub(crate) async fn attach(&self, preface: &str) -> Result<Attached, Refused> {
        let attached = async {
            let (hear, say) = self.subsystem(preface).await?.split();
            let mut hear = Hear(hear);
            let mut line = Vec::new();
            loop {
                match hear.next().await {
                    Heard::Bytes(bytes) => line.extend_from_slice(&bytes),
                    Heard::Exit(_) => {}
                    Heard::End => {
                        return Err(Refused::Broke("vsm-login has ended".to_owned()));
                    }
                }
                if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let first = Bytes::from(line.split_off(end + 1));
                    line.truncate(end);
                    answered(&line)?;
                    return Ok(Attached { hear, say: Say(say), first });
                }
                if line.len() > LINE_MAX {
                    return Err(Refused::Broke("its answer is too long".to_owned()));
                }
            }
        };
        tokio::time::timeout(ANSWER_MAX, attached).await.map_err(|_| self.silent())?
    }

    async fn subsystem(&self, preface: &str) -> Result<Channel<client::Msg>, Refused> {
        let channel = self.handle.channel_open_session().await?;
        channel.request_subsystem(true, "vsm").await?;
        channel.data_bytes(format!("vsm/1 {preface}\n").into_bytes()).await?;
        Ok(channel)
    }

    fn silent(&self) -> Refused {
        Refused::Broke(format!("vsm-login on {} does not answer", self.host))
    }

    /// Whether the connection is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }
}

/// russh says that nothing is left to try where the connection was closed: sshd names what is left when it refuses.
fn closed() -> Refused {
    Refused::Broke("sshd closed the connection".to_owned())
}

fn answered(line: &[u8]) -> Result<(), Refused> {
    match String::from_utf8_lossy(line) {
        line if line == "ok" => Ok(()),
        line => Err(Refused::Subsystem(line.into_owned())),
    }
}

/// What `vsm-login` has joined, with its end to be heard of.
pub(crate) struct Attached {
    pub(crate) hear: Hear,
    pub(crate) say: Say,
    /// What came along with its answer.
    pub(crate) first: Bytes,
}

/// What comes from there.
pub(crate) enum Heard {
    Bytes(Bytes),
    /// The exit code of `vsm-login`.
    Exit(u32),
    End,
}

/// That side of it.
pub(crate) struct Hear(ChannelReadHalf);

impl Hear {
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match self.0.wait().await {
                Some(ChannelMsg::Data { data }) => return Heard::Bytes(data),
                Some(ChannelMsg::ExitStatus { exit_status }) => return Heard::Exit(exit_status),
                // After the end of the data its exit code comes.
                Some(_) => {}
                None => return Heard::End,
            }
        }
    }
}

/// This side of it.
pub(crate) struct Say(ChannelWriteHalf<client::Msg>);

impl Say {
    pub(crate) async fn bytes(&self, bytes: Bytes) -> Result<(), Refused> {
        Ok(self.0.data_bytes(bytes).await?)
    }
}

async fn in_time<T>(
    most: Duration,
    what: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T, Refused> {
    let late = || Refused::Broke("sshd takes too long".to_owned());
    Ok(tokio::time::timeout(most, what).await.map_err(|_| late())??)
}
