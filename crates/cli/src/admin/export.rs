//! `vsmctl pki export`: what others need to trust this cluster.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use vsm_daemon::{
    authorities::Certificate,
    files::{self, Access},
    grpc,
};
use vsm_proto::admin::v1::{self as pb, identities_client::IdentitiesClient};

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::with_deadline,
    exit::{CANNOT_WRITE, Failure, SOFTWARE, USAGE},
    output::{self, Format},
};

/// Where the certificates go.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write the certificates to this file, and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file even if it is another user's, or holds something else than certificates
    #[arg(long, requires = "out")]
    replace: bool,
}

/// An authority; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct AuthorityRecord {
    subject: String,
    key: String,
    since: Option<String>,
    until: Option<String>,
    issuers: Vec<IssuerRecord>,
    certificate: String,
}

/// An issuer of an authority.
#[derive(Debug, Serialize)]
struct IssuerRecord {
    broker: String,
    key: String,
    until: Option<String>,
}

impl From<pb::Authority> for AuthorityRecord {
    fn from(authority: pb::Authority) -> Self {
        let issuer = |issuer: pb::Issuer| IssuerRecord {
            broker: issuer.broker,
            key: issuer.key,
            until: output::time(issuer.until_unix_ms),
        };
        Self {
            subject: authority.subject,
            key: authority.key,
            since: output::time(authority.since_unix_ms),
            until: output::time(authority.until_unix_ms),
            issuers: authority.issuers.into_iter().map(issuer).collect(),
            certificate: authority.certificate,
        }
    }
}

/// The authorities that a broker trusts.
pub(super) async fn authorities(
    client: &mut IdentitiesClient<tonic::transport::Channel>,
) -> Result<Vec<pb::Authority>, Failure> {
    let request = with_deadline(pb::ListAuthoritiesRequest { hosts: false }, DEADLINE);
    let all = client.list_authorities(request).await?.into_inner().authorities;
    // What is passed on as certificates is such, whoever answered.
    let is_one = |one: &pb::Authority| Certificate::all(&one.certificate).len() == 1;
    if all.is_empty() || !all.iter().all(is_one) {
        return Err(Failure::new(SOFTWARE, "the broker answered with what is no certificate"));
    }
    Ok(all)
}

/// `vsmctl pki export`.
///
/// # Errors
/// If the broker cannot be asked, or the file cannot be written or is not to be replaced.
pub async fn pki_export(options: &AdminOptions, arguments: &ExportArgs) -> Result<(), Failure> {
    let mut client = IdentitiesClient::new(options.channel().await?)
        .max_decoding_message_size(grpc::MESSAGE_MAX);
    let all = authorities(&mut client).await?;
    let pem: String = all.iter().map(|one| one.certificate.as_str()).collect();
    let records: Vec<AuthorityRecord> = all.into_iter().map(Into::into).collect();
    match (&arguments.out, options.output) {
        (None, Format::Table) => output::write(&pem),
        (None, format) => output::value(format, &records),
        (Some(path), format) => {
            write(path, &pem, arguments.replace)?;
            output::report(format, &records, |records| {
                format!("Wrote {} authority certificate(s) to {}.\n", records.len(), path.display())
            })
        }
    }
}

/// Writes the file; one that is there is replaced only where it is the caller's and holds certificates.
fn write(path: &Path, pem: &str, replace: bool) -> Result<(), Failure> {
    let cannot = |error: &io::Error| {
        Failure::new(CANNOT_WRITE, format!("cannot write {}: {error}", path.display()))
    };
    let refused = |why: &str| {
        let text = format!("{} {why}; --replace replaces it", path.display());
        Err(Failure::new(USAGE, text))
    };
    let no_file = |file: &fs::Metadata| !file.is_file() && !file.is_symlink();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(&error)),
        // A device or a folder that a file replaced would be missed by others.
        Ok(file) if no_file(&file) => {
            let text = format!("{} is there already, and is no file: name another", path.display());
            return Err(Failure::new(USAGE, text));
        }
        Ok(_) if replace => {}
        Ok(file) if file.is_symlink() => return refused("is a link"),
        Ok(file) if file.uid() != nix::unistd::geteuid().as_raw() => {
            return refused("is another user's");
        }
        Ok(_) => {
            let present = fs::read_to_string(path).map_err(|error| cannot(&error))?;
            if !present.trim().is_empty() && Certificate::all(&present).is_empty() {
                return refused("holds something else than certificates");
            }
            if present.contains("PRIVATE KEY") {
                return refused("holds a private key");
            }
        }
    }
    files::replace(path, pem.as_bytes(), Access { mode: 0o644, uid: None })
        .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))
}

#[cfg(test)]
mod tests {
    use vsm_daemon::pki;

    use super::*;

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, (pem, key)) = (dir.path().join("a.pem"), pki::make_authority("a", 30).unwrap());
        write(&path, &pem, false).unwrap();
        write(&path, &pem, false).unwrap();
        for other in ["[section]\n", &format!("{pem}{}", *key)] {
            fs::write(&path, other).unwrap();
            let refused = write(&path, &pem, false).unwrap_err();
            assert!(refused.code == USAGE && refused.text.contains("--replace"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        write(&path, &pem, true).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(write(&link, &pem, false).unwrap_err().code, USAGE);
        for other in [dir.path(), Path::new("/dev/null")] {
            assert_eq!(write(other, &pem, true).unwrap_err().code, USAGE);
        }
        let no_folder = dir.path().join("none/a.pem");
        assert_eq!(write(&no_folder, &pem, true).unwrap_err().code, CANNOT_WRITE);
    }
}
