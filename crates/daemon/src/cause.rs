//! Why a call failed, in one line for people. The innermost cause says most; certificates are a matter of their own, as
//! what is wrong with one may be nothing but a clock.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError, OtherError, pki_types::UnixTime};
use tonic::Status;
use vsm_core::UnixMillis;

use crate::clock;

/// What is wrong with the clock or the certificates is found out with these.
const COMPARE: &str = "compare date -u on both hosts, then the certificates (openssl x509 -noout -dates -in /etc/vsm/pki/host.pem)";

/// What is told of a host whose certificate counts no more.
const REVOKED: &str = "its certificate was revoked";
/// What a host is told whose own certificate counts no more.
const REVOKED_THERE: &str = "this host's certificate was revoked; an administrator can let it in anew: an agent by vsmctl agent enrol, any \
                             host by vsmctl pki issue";

/// What a host is told whose certificate is by an authority that the other side does not trust, or trusts no more.
const UNKNOWN_THERE: &str = "this host's certificate is by no authority that is trusted there: a new certificate and the present ca.pem \
                             belong to /etc/vsm/pki (vsmctl pki issue, or vsmctl agent enrol for an agent)";
/// What is told of a host whose certificate is by an authority that this host does not trust.
const UNKNOWN_HERE: &str = "its certificate is by no authority that this host trusts: compare ca.pem on both, in /etc/vsm/pki";

/// What is the matter with the certificate of a host that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It was revoked.
    Revoked,
    /// It is by no authority that this host trusts.
    Unknown,
}

/// What is the matter with the other side's certificate, where a call failed for that.
#[must_use]
pub fn fault(status: &Status) -> Option<Fault> {
    let mut next = status.source();
    while let Some(error) = next {
        match as_tls(error) {
            Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => {
                return Some(Fault::Revoked);
            }
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => return Some(Fault::Unknown),
            Some(_) | None => next = error.source(),
        }
    }
    None
}

/// Of a call that failed.
#[must_use]
pub fn of(status: &Status) -> String {
    let said = [status.source().map(of_error).unwrap_or_default(), status.message().to_owned()];
    // Some have a code and no words.
    let said = said.into_iter().find(|text| !text.is_empty());
    said.unwrap_or_else(|| status.code().description().to_owned())
}

/// Of an error: its innermost cause.
#[must_use]
pub fn of_error(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    loop {
        if let Some(text) = as_tls(last).and_then(certificate) {
            return text;
        }
        match last.source() {
            Some(source) => last = source,
            None => break,
        }
    }
    let text = last.to_string();
    // An alert loses its type on its way through HTTP/2.
    let refused = format!("received fatal alert: {:?}", AlertDescription::CertificateExpired);
    let revoked = format!("received fatal alert: {:?}", AlertDescription::CertificateRevoked);
    let unknown = format!("received fatal alert: {:?}", AlertDescription::UnknownCA);
    match text {
        text if text.contains(&refused) => refused_there(),
        text if text.contains(&revoked) => REVOKED_THERE.to_owned(),
        text if text.contains(&unknown) => UNKNOWN_THERE.to_owned(),
        text if text.contains("without sending TLS close_notify") => {
            "the other side closed the connection".to_owned()
        }
        text => text,
    }
}

/// The error of TLS that this is, or has in it.
fn as_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref::<rustls::Error>().or_else(|| {
        let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
        inner.downcast_ref::<rustls::Error>()
    })
}

/// What is the matter with a certificate, where it may be a clock.
fn certificate(error: &rustls::Error) -> Option<String> {
    if let rustls::Error::AlertReceived(AlertDescription::CertificateExpired) = error {
        return Some(refused_there());
    }
    if let rustls::Error::AlertReceived(AlertDescription::CertificateRevoked) = error {
        return Some(REVOKED_THERE.to_owned());
    }
    if let rustls::Error::AlertReceived(AlertDescription::UnknownCA) = error {
        return Some(UNKNOWN_THERE.to_owned());
    }
    let rustls::Error::InvalidCertificate(fault) = error else { return None };
    // The second where an authority of that name is trusted, and it is another one.
    if let CertificateError::UnknownIssuer | CertificateError::BadSignature = fault {
        return Some(UNKNOWN_HERE.to_owned());
    }
    if let CertificateError::Revoked = fault {
        return Some(REVOKED.to_owned());
    }
    if let CertificateError::Other(OtherError(why)) = fault {
        return Some(why.to_string());
    }
    if let CertificateError::NotValidYetContext { time, not_before } = fault {
        let (begins, now) = (shown(*not_before), shown(*time));
        return Some(format!(
            "its certificate is not valid yet: it begins at {begins}, and this host's clock says {now}; {COMPARE}"
        ));
    }
    let CertificateError::ExpiredContext { time, not_after } = fault else { return None };
    let (ended, now) = (shown(*not_after), shown(*time));
    Some(format!(
        "its certificate has expired: it ended at {ended}, and this host's clock says {now}; {COMPARE}"
    ))
}

/// One alert stands for both.
fn refused_there() -> String {
    let now = clock::shown(clock::unix_millis());
    format!(
        "it refuses this host's certificate, which by its clock has expired or is not valid yet; this host's clock says \
         {now}; {COMPARE}"
    )
}

fn shown(time: UnixTime) -> String {
    clock::shown(UnixMillis(time.as_secs().saturating_mul(1000)))
}
