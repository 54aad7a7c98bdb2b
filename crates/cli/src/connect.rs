//! `vsm connect`: ask the broker, go to the session host, show the desktop.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tonic::transport::Channel;
use uuid::Uuid;
use vsm_core::PROFILE_KEY_MAX;
use vsm_daemon::clock;
use vsm_proto::{
    broker::v1::{LoginRequest, LoginResponse, broker_client::BrokerClient},
    session::v1::{Ended, Geometry, Session, StartParams},
};

use crate::{
    broker::{self, LOGIN_DEADLINE},
    choose::{self, ChoiceOptions, Wish},
    client::ClientOptions,
    door::{Door, Key},
    exit::{CANNOT_WRITE, Failure, NOT_FOUND, SOFTWARE, SSH, UNAVAILABLE},
    forward, output,
    patience::Patience,
    retry::{self, RetryOptions},
    rfb,
    ssh::{Destination, Farewell, Pipe, SshOptions, TRY_HOST_MAX},
    viewer,
};

/// A connection that held for this long was a good one.
const STEADY: Duration = Duration::from_secs(60);
/// Connections in a row that did not hold, and then no more.
const LOSSES_MAX: u32 = 3;

/// What `vsm connect` takes.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Host of the broker, with your login name there if it differs from the local one
    #[arg(value_name = "[USER@]HOST")]
    to: Destination,
    /// Viewer to run; the path of a unix socket is appended to its arguments
    #[arg(long, value_name = "CMD", conflicts_with_all = ["no_viewer", "screenshot"])]
    viewer: Option<String>,
    /// Run no viewer: print the unix socket through which one can reach the desktop, and leave it open
    #[arg(long, conflicts_with = "screenshot")]
    no_viewer: bool,
    /// Save a picture of the desktop and exit
    #[arg(long, value_name = "FILE.png")]
    screenshot: Option<PathBuf>,
    /// Size of a new desktop in pixels, instead of the size of this screen
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    geometry: Option<Geometry>,
    /// Get a desktop that runs this command instead of the full desktop
    #[arg(long, value_name = "CMD", default_value = "", hide_default_value = true)]
    start_command: String,
    /// Profile of a new desktop, by its key; a desktop that you already have keeps its own
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true, conflicts_with = "start_command", value_parser = profile)]
    profile: String,
    /// Which desktop.
    #[command(flatten)]
    choice: ChoiceOptions,
    /// What is told of this machine.
    #[command(flatten)]
    client: ClientOptions,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    retry: RetryOptions,
    #[command(flatten)]
    ssh: SshOptions,
}

fn size(text: &str) -> Result<Geometry, String> {
    let size: vsm_core::Geometry =
        text.parse().map_err(|error: vsm_core::InvalidGeometry| error.to_string())?;
    Ok(Geometry { width: size.width().into(), height: size.height().into() })
}

fn profile(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if text.len() <= PROFILE_KEY_MAX && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("a key is at most {PROFILE_KEY_MAX} of a-z A-Z 0-9 _ - ."))
}

/// What `--json` prints; the fields are stable.
#[derive(Debug, Serialize)]
struct Report {
    session: String,
    user: String,
    agent: String,
    host: String,
    display: u32,
    created: bool,
    socket: Option<PathBuf>,
    screenshot: Option<PathBuf>,
    attempts: u32,
    timings_ms: Timings,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Default, Serialize)]
struct Timings {
    /// Attempts that failed, and the waits between them.
    retry: f64,
    ssh: f64,
    broker: f64,
    agent: f64,
    viewer: f64,
}

/// Runs it.
///
/// # Errors
/// With one line for the user. Where the broker knows more there is a reference in it: the beginning of the request id
/// in the broker's log.
pub async fn run(arguments: ConnectArgs) -> Result<(), Failure> {
    // Before anything is started that could then not be shown.
    let viewer = if arguments.no_viewer || arguments.screenshot.is_some() {
        viewer::socket_dir().map(|_| Vec::new())?
    } else {
        viewer::ready(arguments.viewer.as_deref())?
    };
    go(&arguments, &viewer).await
}

/// Connects, and again whenever the connection to the desktop is lost, as at a failover: a network that is gone comes
/// back without the user's doing.
async fn go(arguments: &ConnectArgs, viewer: &[OsString]) -> Result<(), Failure> {
    let mut wish = arguments.choice.wish();
    let mut losses = 0;
    loop {
        let began = clock::now();
        let Some(session) = once(arguments, viewer, &mut wish, losses > 0).await? else {
            return Ok(());
        };
        losses = if began.elapsed() < STEADY { losses + 1 } else { 1 };
        if losses > LOSSES_MAX || arguments.retry.retry_for == 0 {
            let why = "the connection to your desktop broke; connect again to come back to it";
            return Err(Failure::new(UNAVAILABLE, why));
        }
        output::remark("the connection to your desktop broke; connecting again ...");
        wish = Wish::This(session);
    }
}

/// Logs in at the broker, as often as it takes.
async fn ask_broker(
    arguments: &ConnectArgs,
    wish: &mut Wish,
    key: &mut Key,
    request: Uuid,
    lap: &mut Instant,
) -> Result<(BrokerClient<Channel>, LoginResponse, u32, Timings), Failure> {
    let client = told(arguments)?;
    let mut timings = Timings::default();
    let (mut attempts, mut held) = (0, None);
    loop {
        let (broker, answer) = retry::riding(&arguments.retry, async || {
            attempts += 1;
            timings.retry += timings.ssh + timings.broker + elapsed(lap);
            (timings.ssh, timings.broker) = (0.0, 0.0);
            let mut broker = match held.take() {
                Some(broker) => broker,
                None => {
                    let patience = arguments.retry.patience();
                    broker::dial(&arguments.ssh, &arguments.to, patience).await?
                }
            };
            timings.ssh = elapsed(lap);
            let public = key.public().await;
            let answer = log_in(&mut broker, wish, &client, request, public).await;
            timings.broker = elapsed(lap);
            Ok((broker, answer.map_err(|failure| failure.with_reference(request))?))
        })
        .await?;
        if answer.session.is_some() {
            return Ok((broker, answer, attempts, timings));
        }
        *wish = choose::ask(answer).await?;
        // The time that a person takes is nobody's.
        elapsed(lap);
        held = Some(broker);
    }
}

/// One connection, `again` after one that was lost; the session if this one is.
async fn once(
    arguments: &ConnectArgs,
    viewer: &[OsString],
    wish: &mut Wish,
    again: bool,
) -> Result<Option<String>, Failure> {
    let request = Uuid::new_v4();
    // While ssh connects.
    let mut key = Key::make();
    output::progress(&format!("Asking {} for your desktop ...", arguments.to.host));
    let mut lap = clock::now();
    let asked = ask_broker(arguments, wish, &mut key, request, &mut lap).await?;
    let (mut broker, answer, attempts, mut timings) = asked;
    let session =
        answer.session.ok_or_else(|| Failure::new(SOFTWARE, "the broker gave an empty answer"))?;
    let how = if answer.created { "A new desktop" } else { "The desktop" };
    output::progress(&format!(
        "{how} of {}, :{} on {} (session {})",
        session.user, session.display, answer.host, session.id
    ));
    remarks(arguments, answer.created, answer.last_ended.as_ref(), &session);
    // As the broker knows the user, from there on.
    let known = arguments.to.known_as(&session.user);
    let to = known.at(&answer.host);
    let whole = Duration::from_secs(arguments.retry.retry_for);
    // The network that was lost may be the one to the session host.
    let patience = if again { whole } else { whole.min(TRY_HOST_MAX) };
    let via = answer.relay.then_some(known);
    let key = key.accepted(answer.key_accepted, &answer.host_keys);
    let door = Door { key, via, patience };
    let mut socket = None;
    if arguments.no_viewer {
        socket = Some(forward::start(&arguments.ssh, &to, &session.id, door)?);
    } else {
        let pipe =
            attach(arguments, &to, &session, &door, &mut broker).await.map_err(|failure| {
                if failure.code == SSH { failure } else { failure.with_reference(request) }
            })?;
        timings.agent = elapsed(&mut lap);
        drop((broker, door));
        match &arguments.screenshot {
            Some(file) => picture(pipe, file).await?,
            None => {
                let farewell = viewer::run(viewer, &session.id, pipe).await?;
                if farewell == Farewell::Lost {
                    return Ok(Some(session.id));
                }
                part(arguments, farewell, &session.id)
                    .await
                    .map_err(|failure| failure.with_reference(request))?;
            }
        }
        timings.viewer = elapsed(&mut lap);
    }
    let gone_to = Answer { session, host: answer.host, created: answer.created };
    report(arguments, gone_to, socket, attempts, timings).map(|()| None)
}

/// What is told of this machine, and of what a new desktop is to be like.
fn told(arguments: &ConnectArgs) -> Result<StartParams, Failure> {
    let ConnectArgs { geometry, start_command, profile, .. } = arguments;
    arguments.client.tell(*geometry, start_command.clone(), profile.clone())
}

/// Says what the user should know of the desktop that they are given.
fn remarks(arguments: &ConnectArgs, created: bool, last: Option<&Ended>, session: &Session) {
    if let Some(words) = another_profile(arguments, created, session) {
        output::remark(&words);
    }
    if let Some(ended) = last {
        output::remark(&format!("your last desktop ended: {}", broker::words(ended)));
    }
}

/// What a user is told who asked for a profile and is given a desktop that there was.
fn another_profile(arguments: &ConnectArgs, created: bool, session: &Session) -> Option<String> {
    let of = session.params.as_ref().map_or("", |params| params.profile.as_str());
    let asked = arguments.profile.as_str();
    if asked.is_empty() || created || asked == of {
        return None;
    }
    let as_it_is = if of.is_empty() { "without one".to_owned() } else { format!("with {of}") };
    Some(format!(
        "this desktop was started {as_it_is} and stays as it is: --profile {asked} is for a new one"
    ))
}

async fn log_in(
    broker: &mut BrokerClient<Channel>,
    wish: &mut Wish,
    client: &StartParams,
    request: Uuid,
    public_key: String,
) -> Result<LoginResponse, Failure> {
    let (session_id, choice) = match wish {
        Wish::This(id) => {
            *id = broker::whole_id(broker, id).await?;
            (id.clone(), None)
        }
        Wish::Any(choice) => (String::new(), Some((*choice).into())),
    };
    let (request_id, params) = (request.to_string(), Some(client.clone()));
    let message = LoginRequest { request_id, params, session_id, choice, public_key };
    Ok(broker.login(broker::with_deadline(message, LOGIN_DEADLINE)).await?.into_inner())
}

/// Joins the desktop on its host. Where it is gone already, the broker knows why.
async fn attach(
    arguments: &ConnectArgs,
    to: &Destination,
    session: &Session,
    door: &Door,
    broker: &mut BrokerClient<Channel>,
) -> Result<Pipe, Failure> {
    match door.open(&arguments.ssh, to, &session.id).await {
        Err(failure) if failure.code == NOT_FOUND => {
            let why = broker::why_ended(broker, &session.id).await.unwrap_or(failure.text);
            Err(Failure::new(SOFTWARE, format!("your desktop has ended: {why}")))
        }
        done => done,
    }
}

/// Says why the viewer was closed, where the user may not know.
async fn part(arguments: &ConnectArgs, farewell: Farewell, session: &str) -> Result<(), Failure> {
    match farewell {
        Farewell::Plain | Farewell::Lost => Ok(()),
        Farewell::Disconnected => {
            output::say("Your viewer was disconnected; your desktop lives on.")
        }
        Farewell::Replaced => output::say("Another viewer has taken your desktop over."),
        Farewell::Idle => output::say(
            "You were disconnected, as you did not use your desktop for as long as is allowed; it lives on.",
        ),
        Farewell::Ended => {
            let mut why = None;
            let patience = Patience::of_one_attempt();
            let broker = broker::dial(&arguments.ssh, &arguments.to, patience).await;
            if let Ok(mut broker) = broker {
                why = broker::why_ended(&mut broker, session).await;
            }
            let why = why.unwrap_or_else(|| "the broker may know why".to_owned());
            Err(Failure::new(SOFTWARE, format!("your desktop has ended: {why}")))
        }
    }
}

pub(crate) async fn picture(mut pipe: Pipe, file: &Path) -> Result<(), Failure> {
    let broke =
        |error| Failure::new(UNAVAILABLE, format!("cannot take a picture of the desktop: {error}"));
    let picture = rfb::take(&mut pipe).await.map_err(broke)?;
    picture.save(file).map_err(|error| {
        Failure::new(CANNOT_WRITE, format!("cannot write {}: {error}", file.display()))
    })
}

/// What the broker gave.
struct Answer {
    session: Session,
    host: String,
    created: bool,
}

fn report(
    arguments: &ConnectArgs,
    Answer { session, host, created }: Answer,
    socket: Option<PathBuf>,
    attempts: u32,
    timings_ms: Timings,
) -> Result<(), Failure> {
    if arguments.json {
        let screenshot = arguments.screenshot.clone();
        let (agent, display) = (session.agent, session.display);
        let report = Report {
            session: session.id,
            user: session.user,
            agent,
            host,
            display,
            created,
            socket,
            screenshot,
            attempts,
            timings_ms,
        };
        let line = serde_json::to_string(&report)
            .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        return output::write(&(line + "\n"));
    }
    match (socket, &arguments.screenshot) {
        (Some(socket), _) => output::write(&format!("{}\n", socket.display())),
        (None, Some(file)) => output::write(&format!("{}\n", file.display())),
        (None, None) => Ok(()),
    }
}

/// Milliseconds since the last lap.
fn elapsed(lap: &mut Instant) -> f64 {
    let now = clock::now();
    let millis = now.duration_since(*lap).as_secs_f64() * 1000.0;
    *lap = now;
    (millis * 10.0).round() / 10.0
}
