//! The cluster's certificate authority, and the certificates that it signs: made here, kept in files.
//!
//! The authority is the cluster: whoever holds one of its certificates belongs, by the roles in its URI names.

pub(crate) mod rotate;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use clap::Args;
use vsm_daemon::{
    files::{self, Access},
    pki::{self, PkiError, Wanted},
    tls::Role,
};

pub use rotate::{BeginArgs, begin};

use crate::{
    exit::{CANNOT_WRITE, CONFIG, Failure, NOT_FOUND, SOFTWARE, USAGE},
    output,
};

const AUTHORITY_DAYS: u32 = 3650;
/// Where a host has its own.
const OWN: &str = "/etc/vsm/pki";

/// Where the authority is kept.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Directory for the authority's certificate and key; keep it off the session hosts
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/ca")]
    dir: PathBuf,
    /// Name of the authority, shown in certificates
    #[arg(long, default_value = "VSM cluster")]
    name: String,
}

/// For whom and where.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Host, spelled as in the configuration: an entry of /vsmserver/HA/nodes or of an agents list
    name: String,
    /// Role of the host; may be repeated for a host with several roles
    #[arg(long = "role", value_name = "broker|agent|admin", required = true)]
    roles: Vec<Role>,
    /// Additional DNS name or address under which the host is reached; may be repeated
    #[arg(long = "address", value_name = "NAME_OR_IP")]
    addresses: Vec<String>,
    /// Directory of the authority
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/ca")]
    dir: PathBuf,
    /// Directory for host.pem, host.key and ca.pem; copy it to /etc/vsm/pki on the host
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// For which broker and where.
#[derive(Debug, Args)]
pub struct IssuerArgs {
    /// Broker, spelled as in /vsmserver/HA/nodes
    broker: String,
    /// Directory of the authority
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/ca")]
    dir: PathBuf,
    /// Directory for issuer.pem and issuer.key; copy both to /etc/vsm/pki on that broker
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it is valid; what it signs ends no later
    #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// `vsmctl pki init`: a new authority. One that is there already is left alone, as a new one would shut out every host.
///
/// # Errors
/// If there is half of one, or the files cannot be written.
pub fn init(arguments: &InitArgs) -> Result<(), Failure> {
    let (certificate, key) = (arguments.dir.join("ca.pem"), arguments.dir.join("ca.key"));
    let dir = arguments.dir.display();
    match (certificate.exists(), key.exists()) {
        (false, false) => {}
        (true, true) => {
            return output::say(&format!("Left the authority in {dir} as it is; guard ca.key."));
        }
        (has_certificate, _) => {
            let missing = if has_certificate { &key } else { &certificate };
            let text = format!(
                "{dir} has half of an authority: {} is not there. Bring it back from your copy; a new authority would \
                 shut out every host",
                missing.display()
            );
            return Err(Failure::new(USAGE, text));
        }
    }
    let (pem, private) =
        pki::make_authority(&arguments.name, AUTHORITY_DAYS).map_err(|error| failed(&error))?;
    make_dir(&arguments.dir)?;
    write_new(&key, 0o600, &private)?;
    write_new(&certificate, 0o644, &pem)?;
    output::say(&format!("Made an authority in {dir}; guard ca.key."))
}

/// `vsmctl pki issue`: a certificate and key for a host.
///
/// # Errors
/// If the authority cannot be read, a name is bad, or the files cannot be written.
pub fn issue(arguments: &IssueArgs) -> Result<(), Failure> {
    let authority = rotate::signing(&arguments.dir)?;
    if arguments.roles.iter().any(|role| pki::identity(*role, &arguments.name).is_none()) {
        return Err(Failure::new(USAGE, format!("{:?} is no name of a host", arguments.name)));
    }
    let wanted = Wanted {
        name: arguments.name.clone(),
        roles: arguments.roles.clone(),
        addresses: arguments.addresses.clone(),
        since: None,
        life: pki::DAY * arguments.days,
    };
    let (certificate, key) = authority.signer.make(&wanted).map_err(|error| failed(&error))?;
    make_dir(&arguments.out)?;
    let is_brokers = arguments.roles.contains(&Role::Broker);
    replace_key(&arguments.out.join("host.key"), &key, is_brokers)?;
    let chain = format!("{certificate}{}", authority.cross);
    replace(&arguments.out.join("host.pem"), 0o644, &chain)?;
    replace(&arguments.out.join("ca.pem"), 0o644, &authority.trusted)?;
    let roles: Vec<_> = arguments.roles.iter().map(ToString::to_string).collect();
    let text = format!(
        "Issued a certificate to {} as {}, for {} days.",
        arguments.name,
        roles.join(" and "),
        arguments.days
    );
    output::say(&text)
}

/// `vsmctl pki issuer`: what a broker needs to sign certificates for agents.
///
/// # Errors
/// If the authority cannot be read, or the files cannot be written.
pub fn issuer(arguments: &IssuerArgs) -> Result<(), Failure> {
    let authority = rotate::signing(&arguments.dir)?;
    let IssuerArgs { broker, out, days, .. } = arguments;
    if pki::identity(Role::Broker, broker).is_none() {
        return Err(Failure::new(USAGE, format!("{broker:?} is no name of a host")));
    }
    let (certificate, key) =
        authority.signer.make_issuer(broker, *days).map_err(|error| failed(&error))?;
    make_dir(out)?;
    replace_key(&out.join("issuer.key"), &key, true)?;
    replace(&out.join("issuer.pem"), 0o644, &format!("{certificate}{}", authority.cross))?;
    output::say(&format!(
        "Made an issuer for {broker}, for {days} days. It can sign for agents, and for nobody else."
    ))
}

fn failed(error: &PkiError) -> Failure {
    let code = match error {
        PkiError::Read { .. } => {
            let text = format!(
                "{error} (this is for the host that has the authority, or --dir; a new cluster makes one with vsmctl pki init)"
            );
            return Failure::new(NOT_FOUND, text);
        }
        PkiError::Open { .. } | PkiError::Unusable { .. } => CONFIG,
        PkiError::Address(_) | PkiError::Request(_) | PkiError::Name => USAGE,
        PkiError::Library(_) => SOFTWARE,
    };
    Failure::new(code, error.to_string())
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(|error| cannot(dir, &error))
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::new(CANNOT_WRITE, format!("cannot write {}: {error}", path.display()))
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| cannot(path, &error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| cannot(path, &error))
}

/// A host never sees half a key.
fn replace(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    files::replace(path, text.as_bytes(), Access { mode, uid: None })
        .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))
}

/// The same for a key. Where it is put in the place of one that the broker's account may read, or straight into a
/// broker's own folder, that account may read it from its first moment on.
fn replace_key(path: &Path, text: &str, is_brokers: bool) -> Result<(), Failure> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        files::replace(&new, text.as_bytes(), Access { mode: 0o600, uid: None })?;
        if is_brokers && path.parent() == Some(Path::new(OWN)) && nix::unistd::geteuid().is_root() {
            pki::for_broker(&new)?;
        } else {
            pki::as_readable_as(path, &new)?;
        }
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
    };
    write().map_err(|error| cannot(path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn issue_args(dir: &Path, name: &str) -> IssueArgs {
        let (roles, addresses) = (vec![Role::Agent], vec!["10.0.0.11".to_owned()]);
        IssueArgs {
            name: name.into(),
            roles,
            addresses,
            dir: dir.join("ca"),
            out: dir.join("out"),
            days: 30,
        }
    }

    #[test]
    fn an_authority_is_made_once_and_issues() {
        let dir = tempfile::tempdir().unwrap();
        let init_args = InitArgs { dir: dir.path().join("ca"), name: "test".into() };
        assert_eq!(issue(&issue_args(dir.path(), "agent1")).unwrap_err().code, NOT_FOUND);
        init(&init_args).unwrap();
        let key = fs::read(dir.path().join("ca/ca.key")).unwrap();
        init(&init_args).unwrap();
        assert_eq!(fs::read(dir.path().join("ca/ca.key")).unwrap(), key, "it stays as it is");
        issue(&issue_args(dir.path(), "agent1")).unwrap();
        issue(&issue_args(dir.path(), "agent1")).unwrap();
        let mode =
            |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("ca/ca.key"), mode("out/host.key"), mode("out/host.pem")),
            (0o600, 0o600, 0o644)
        );
        fs::remove_file(dir.path().join("ca/ca.pem")).unwrap();
        let half = init(&init_args).unwrap_err();
        assert_eq!(half.code, USAGE);
        assert!(half.text.contains("ca/ca.pem is not there"), "{}", half.text);
        fs::remove_file(dir.path().join("ca/ca.key")).unwrap();
        init(&init_args).unwrap();
        for name in ["a b", "", &"x".repeat(300)] {
            let bad = issue(&issue_args(dir.path(), name)).unwrap_err();
            let said = format!("{name:?} is no name of a host");
            assert_eq!((bad.code, bad.text.as_str()), (USAGE, said.as_str()));
        }
    }
}
