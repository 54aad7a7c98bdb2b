//! `vsm-setup enrol`: this host's first certificate. The key is made here and stays here; the broker signs it for the
//! token, and is known by the authority's key.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Read},
    net::IpAddr,
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::Duration,
};

use tonic::Code;
use vsm_config::{Config, keys};
use vsm_core::Hash;
use vsm_daemon::{
    authorities, cause,
    files::{self, Access},
    grpc,
    pki::{self, PkiError, Request},
    tls::{Role, Tls},
};
use vsm_proto::broker::v1::{Certificates, EnrolRequest, enrolment_client::EnrolmentClient};

use super::load;
use crate::{
    args::vsm_setup::EnrolArgs,
    exit::{CANNOT_WRITE, Failure, NOT_ALLOWED, SOFTWARE, UNAVAILABLE, USAGE},
    output,
};

const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(2);
/// Longest token, in bytes.
const TOKEN_MAX: u64 = 256;

/// Gets the certificate and puts it in place. What is there is only replaced if that is asked for, and only by one that
/// was got.
///
/// # Errors
/// If the broker cannot be asked, is not of that cluster, or refuses; or the files cannot be written.
pub(super) fn enrol(arguments: &EnrolArgs) -> Result<(), Failure> {
    let authority: Hash = arguments
        .authority
        .trim_start_matches("sha256:")
        .parse()
        .map_err(|error| Failure::new(USAGE, format!("--authority: {error}")))?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(NOT_ALLOWED, "only root can put a certificate in place"));
    }
    let config = load(&arguments.config)?;
    let [ca, certificate, key] = [&keys::tls::CA_FILE, &keys::tls::CERT_FILE, &keys::tls::KEY_FILE]
        .map(|parameter| config.get(parameter));
    is_this_host(&arguments.agent, &config, arguments.other_name)?;
    may_replace(&certificate, arguments.replace)?;
    for path in [&ca, &certificate, &key] {
        make_folder_of(path)?;
    }
    let token = read_token()?;
    let made = Request::new().map_err(|error| library(&error))?;
    pki::has_room(&certificate, &key)
        .map_err(|error| Failure::new(CANNOT_WRITE, format!("{error}; the token was not used")))?;
    let answer = ask(arguments, &token, authority, &made)?;
    // Of what came only the authority that is asked for is trusted, and one that it vouches for.
    let mut authorities = pki::with_key(&answer.authorities, authority);
    let learned = authorities::learned(&authorities, &answer.chain, &answer.authorities);
    authorities.extend(learned.into_iter().map(|one| one.pem));
    check(&answer.chain, &authorities, &made, arguments)?;
    pki::install(&certificate, &key, (&answer.chain, &made.key))
        .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))?;
    files::replace(&ca, authorities.as_bytes(), Access { mode: 0o644, uid: None })
        .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))?;
    let until = pki::shown(&answer.chain).first().and_then(|own| output::time(own.until.0));
    let until = until.as_deref().map(output::to_the_second).unwrap_or_default();
    output::say(&format!(
        "{} has a certificate until {until}, which vsmagent renews by itself. Next: systemctl restart vsmagent",
        arguments.agent
    ))
}

/// Whether the name is this host's: the certificate of another one, put in place here, keeps both from serving. An
/// address is taken at its word.
fn is_this_host(agent: &str, config: &Config, other_name: bool) -> Result<(), Failure> {
    let own = vsm_daemon::process::host_name();
    let configured = config.get(&keys::vsmagent::AGENT_HOSTNAME);
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_own = [own.as_str(), configured.as_str()].iter().any(|name| short(name) == short(agent));
    if is_own || other_name || agent.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let text = format!(
        "this host is {own}, and the certificate would be for {agent}: run it there. --other-name takes it where this \
         host is {agent} in the brokers' configuration"
    );
    Err(Failure::new(USAGE, text))
}

/// Whether a certificate may be put there: not in place of one that is more than an agent's.
fn may_replace(certificate: &Path, replace: bool) -> Result<(), Failure> {
    let Ok(present) = fs::read_to_string(certificate) else { return Ok(()) };
    let path = certificate.display();
    if !replace {
        return Err(Failure::new(USAGE, format!("{path} is there already; --replace replaces it")));
    }
    match pki::shown(&present).first() {
        Some(shown) if !shown.names.is_empty() && !shown.is_agents() => {
            let names: Vec<_> = shown.names.iter().map(ToString::to_string).collect();
            let text = format!(
                "{path} is of {}, and a broker signs for agents only: vsmctl pki issue replaces it",
                names.join(" and ")
            );
            Err(Failure::new(USAGE, text))
        }
        _ => Ok(()),
    }
}

/// The token, from standard input: on a command line all users of the host would see it.
fn read_token() -> Result<String, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        output::remark("The token that vsmctl agent enrol printed:");
    }
    let mut line = String::new();
    input
        .lock()
        .take(TOKEN_MAX)
        .read_line(&mut line)
        .map_err(|error| Failure::new(USAGE, format!("no token on standard input: {error}")))?;
    match line.trim() {
        "" => Err(Failure::new(USAGE, "no token on standard input")),
        token => Ok(token.to_owned()),
    }
}

/// Asks with the same key until there is an answer: a token is good for one.
fn ask(
    arguments: &EnrolArgs,
    token: &str,
    authority: Hash,
    made: &Request,
) -> Result<Certificates, Failure> {
    let EnrolArgs { agent, broker, port, .. } = arguments;
    let away = |why: String| Failure::new(UNAVAILABLE, format!("{broker}: {why}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    runtime.block_on(async {
        let mut why = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let channel = grpc::guest_channel(broker, *port, authority)
                .map_err(|error| away(error.to_string()))?;
            let mut client = EnrolmentClient::new(channel);
            let (agent, token, request) = (agent.clone(), token.to_owned(), made.request.clone());
            let asked = client.enrol(EnrolRequest { agent, token, request });
            match tokio::time::timeout(CALL_TIMEOUT, asked).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                    return Err(Failure::new(NOT_ALLOWED, status.message()));
                }
                Ok(Err(status)) => why = cause::of(&status),
                Err(_) => why = format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
            }
        }
        Err(away(format!(
            "{why} (only the active broker answers, and only while the token counts; agents know it as their master)"
        )))
    })
}

/// What came is a certificate for this host's key by this cluster: else a broker would have this host trust somebody
/// else.
fn check(
    chain: &str,
    authorities: &str,
    made: &Request,
    arguments: &EnrolArgs,
) -> Result<(), Failure> {
    let own = pki::shown(chain).into_iter().next();
    let named = pki::identity(Role::Agent, &arguments.agent);
    let is_own = own.is_some_and(|own| {
        pki::public_key(&made.key) == Some(own.key) && named.is_some_and(|name| own.names == [name])
    });
    let is_signed =
        Tls::of(authorities, chain, &made.key).is_ok_and(|tls| tls.check(chain).is_ok());
    if is_own && is_signed {
        return Ok(());
    }
    let broker = &arguments.broker;
    let text = format!("{broker} answered with certificates that are not of this cluster or host");
    Err(Failure::new(SOFTWARE, text))
}

fn make_folder_of(path: &Path) -> Result<(), Failure> {
    let Some(dir) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|error| {
        Failure::new(CANNOT_WRITE, format!("cannot make {}: {error}", dir.display()))
    })
}

fn library(error: &PkiError) -> Failure {
    Failure::new(SOFTWARE, error.to_string())
}
