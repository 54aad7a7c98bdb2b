//! The cluster's certificate authority and the certificates of its hosts: made here, kept in files.
//!
//! The authority is the cluster: whoever holds one of its certificates belongs, by the roles in its URI names.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use vsm_daemon::{
    files::{self, Access},
    tls::{OpenKey, Role},
};

use crate::{
    exit::{CANNOT_WRITE, CONFIG, Failure, NOT_FOUND, SOFTWARE, USAGE},
    output,
};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3650;
/// Clocks of a cluster may differ: a certificate holds from a day before it was made.
const CLOCK_SLACK: Duration = DAY;

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
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, &arguments.name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    holds_for(&mut params, AUTHORITY_DAYS);
    let key_pair = KeyPair::generate().map_err(|error| trouble(&error))?;
    let private = key_pair.serialize_pem();
    let authority =
        CertifiedIssuer::self_signed(params, key_pair).map_err(|error| trouble(&error))?;
    make_dir(&arguments.dir)?;
    write_new(&key, 0o600, &private)?;
    write_new(&certificate, 0o644, &authority.pem())?;
    output::say(&format!("Made an authority in {dir}; guard ca.key."))
}

/// `vsmctl pki issue`: a certificate and key for a host.
///
/// # Errors
/// If the authority cannot be read, a name is bad, or the files cannot be written.
pub fn issue(arguments: &IssueArgs) -> Result<(), Failure> {
    let ca_pem = read(&arguments.dir.join("ca.pem"))?;
    let ca_key = arguments.dir.join("ca.key");
    OpenKey::check(&ca_key)
        .map_err(|open| Failure::new(CONFIG, format!("{}: {open}", ca_key.display())))?;
    let ca_key = KeyPair::from_pem(&read(&ca_key)?).map_err(|error| trouble(&error))?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).map_err(|error| trouble(&error))?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, &arguments.name);
    for address in [&arguments.name].into_iter().chain(&arguments.addresses) {
        params.subject_alt_names.push(alternative(address)?);
    }
    for role in &arguments.roles {
        let uri = format!("vsm://{role}/{}", arguments.name);
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().map_err(|error| trouble(&error))?));
    }
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    holds_for(&mut params, arguments.days);
    let key_pair = KeyPair::generate().map_err(|error| trouble(&error))?;
    let certificate = params.signed_by(&key_pair, &issuer).map_err(|error| trouble(&error))?;
    make_dir(&arguments.out)?;
    replace(&arguments.out.join("host.key"), 0o600, &key_pair.serialize_pem())?;
    replace(&arguments.out.join("host.pem"), 0o644, &certificate.pem())?;
    replace(&arguments.out.join("ca.pem"), 0o644, &ca_pem)?;
    let roles: Vec<_> = arguments.roles.iter().map(ToString::to_string).collect();
    let text = format!(
        "Issued a certificate to {} as {}, for {} days.",
        arguments.name,
        roles.join(" and "),
        arguments.days
    );
    output::say(&text)
}

fn alternative(address: &str) -> Result<SanType, Failure> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if address.is_empty() || !address.bytes().all(is_name) {
        return Err(Failure::new(
            USAGE,
            format!("{address:?} is neither a DNS name nor an address"),
        ));
    }
    Ok(SanType::DnsName(address.try_into().map_err(|error| trouble(&error))?))
}

fn holds_for(params: &mut CertificateParams, days: u32) {
    let now = std::time::UNIX_EPOCH + Duration::from_millis(vsm_daemon::clock::unix_millis().0);
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + DAY * days).into();
}

fn trouble(error: &rcgen::Error) -> Failure {
    Failure::new(SOFTWARE, format!("cannot make a certificate: {error}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        Failure::new(
            NOT_FOUND,
            format!(
                "cannot read {}: {error} (make an authority with vsmctl pki init)",
                path.display()
            ),
        )
    })
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
        let bad = issue(&issue_args(dir.path(), "a b")).unwrap_err();
        assert_eq!(
            (bad.code, bad.text.as_str()),
            (USAGE, "\"a b\" is neither a DNS name nor an address")
        );
    }
}
