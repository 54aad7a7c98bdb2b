//! `vsm-setup enrol`: this host's first certificate. The key is made here and stays here; the broker signs it for the
//! token, and is known by the authority's key.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, time::Duration};

use tonic::Code;
use vsm_config::keys;
use vsm_core::Hash;
use vsm_daemon::{
    cause,
    files::{self, Access},
    grpc,
    pki::{self, PkiError, Request},
};
use vsm_proto::broker::v1::{Certificates, EnrolRequest, enrolment_client::EnrolmentClient};

use super::load;
use crate::{
    args::vsm_setup::EnrolArgs,
    exit::{CANNOT_WRITE, Failure, NOT_ALLOWED, SOFTWARE, UNAVAILABLE, USAGE},
    output,
};

const CALL_TIMEOUT: Duration = Duration::from_secs(20);

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
    if certificate.exists() && !arguments.replace {
        let text = format!("{} is there already; --replace replaces it", certificate.display());
        return Err(Failure::new(USAGE, text));
    }
    let Request { key: private, request } = Request::new().map_err(library)?;
    let Certificates { chain, authorities, .. } = ask(arguments, authority, request)?;
    check(&chain, &authorities, authority, &arguments.broker)?;
    for path in [&ca, &certificate, &key] {
        make_folder_of(path)?;
    }
    let access = Access { mode: 0o644, uid: None };
    files::replace(&ca, authorities.as_bytes(), access)
        .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))?;
    pki::install(&certificate, &key, (&chain, &private)).map_err(|error| {
        Failure::new(CANNOT_WRITE, format!("{}: {error}", certificate.display()))
    })?;
    let until = pki::shown(&chain).first().and_then(|own| output::time(own.until.0));
    let until = until.as_deref().map(output::to_the_second).unwrap_or_default();
    output::say(&format!(
        "{} has a certificate until {until}, which vsmagent renews by itself. Next: systemctl restart vsmagent",
        arguments.agent
    ))
}

fn ask(arguments: &EnrolArgs, authority: Hash, request: Vec<u8>) -> Result<Certificates, Failure> {
    let EnrolArgs { agent, broker, port, token, .. } = arguments;
    let away = |why: String| Failure::new(UNAVAILABLE, format!("{broker}: {why}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    runtime.block_on(async {
        let channel = grpc::guest_channel(broker, *port, authority)
            .map_err(|error| away(error.to_string()))?;
        let mut client = EnrolmentClient::new(channel);
        let request = EnrolRequest { agent: agent.clone(), token: token.clone(), request };
        match tokio::time::timeout(CALL_TIMEOUT, client.enrol(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                Err(Failure::new(NOT_ALLOWED, status.message()))
            }
            Ok(Err(status)) => Err(away(cause::of(&status))),
            Err(_) => Err(away(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
        }
    })
}

/// What came is this cluster's: else a broker would have this host trust somebody else.
fn check(chain: &str, authorities: &str, authority: Hash, broker: &str) -> Result<(), Failure> {
    let is_it = pki::shown(authorities).iter().any(|shown| shown.key == authority);
    let has_own = pki::shown(chain)
        .first()
        .is_some_and(|own| own.names.iter().any(|name| name.role() == "agent"));
    if is_it && has_own {
        return Ok(());
    }
    let text = format!("{broker} answered with certificates that are not of this cluster");
    Err(Failure::new(SOFTWARE, text))
}

fn make_folder_of(path: &Path) -> Result<(), Failure> {
    let Some(dir) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|error| {
        Failure::new(CANNOT_WRITE, format!("cannot make {}: {error}", dir.display()))
    })
}

fn library(error: PkiError) -> Failure {
    Failure::new(SOFTWARE, error.to_string())
}
