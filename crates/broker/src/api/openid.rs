//! Logins by OpenID Connect, which `vsm-web` hands in.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Request, Response, Status};
use vsm_core::{SshKey, WebKey, printable};
use vsm_daemon::{clock, grpc};
use vsm_proto::{
    broker::v1::{
        self as pb, open_id_client::OpenIdClient, open_id_server::OpenId as OpenIdService,
    },
    convert,
};

use crate::{
    api::{
        Edge, caller,
        forward::{self, Place},
    },
    error::Refusal,
    journal::trail::Note,
    openid::{NotVouched, Refused, Vouched, Wrong},
    web_keys::{Voucher, Wanted},
};

/// Who hands tokens in.
const WEB: &str = "vsm-web";
/// Longest name in the trail of one who was refused.
const ACTOR_MAX: usize = 128;

/// The service.
#[derive(Debug, Clone)]
pub struct OpenIdApi(pub Arc<Edge>);

#[tonic::async_trait]
impl OpenIdService for OpenIdApi {
    async fn accept_web_key(
        &self,
        request: Request<pb::AcceptWebKeyByTokenRequest>,
    ) -> Result<Response<pb::AcceptWebKeyResponse>, Status> {
        let place = forward::find(&self.0, &request).await?;
        let message = request.into_inner();
        match place {
            // Both nodes have the same configuration; the active one looks at the token.
            Place::There(channel) => {
                OpenIdClient::new(channel).accept_web_key(caller::forwarded(message, None)).await
            }
            Place::Here => {
                let edge = Arc::clone(&self.0);
                self.0.done(async move { accept(&edge, message).await }).await
            }
        }
    }
}

async fn accept(
    edge: &Edge,
    message: pb::AcceptWebKeyByTokenRequest,
) -> Result<pb::AcceptWebKeyResponse, Status> {
    let pb::AcceptWebKeyByTokenRequest { id_token, public_key, lifetime_ms, asked_by } = message;
    let key: SshKey = convert::text("public_key", &public_key)?;
    let vouched = edge.openid.vouched(&id_token, &key).await;
    let vouched = vouched.map_err(|refused| refuse(edge, refused, &asked_by))?;
    if !vouched.first {
        return again(edge, vouched, &key, &asked_by);
    }
    if !edge.site.settings().allows(&vouched.who) {
        let refusal = Refusal::NotAllowed(vouched.who.user.clone());
        note(edge, &refusal.to_string(), Some(&vouched.subject), &asked_by);
        return Err(refusal.into());
    }
    let (issuer, subject) = (vouched.issuer.clone(), vouched.subject.clone());
    let wanted = Wanted {
        user: vouched.who.user.clone(),
        key,
        lifetime: (lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms)),
        asked_by,
        voucher: Some(Voucher { issuer, subject }),
    };
    match edge.web_keys.accept(wanted).await {
        Ok(key) => Ok(answer(&key)),
        Err(error) => {
            edge.openid.give_back(&vouched);
            Err(error.into())
        }
    }
}

/// A token that was taken before lets in whom it has let in, for as long as that was for: an answer may be lost.
fn again(
    edge: &Edge,
    vouched: Vouched,
    key: &SshKey,
    asked_by: &str,
) -> Result<pb::AcceptWebKeyResponse, Status> {
    let now = clock::unix_millis();
    let own = edge.web_keys.of(&vouched.who.user);
    match own.iter().find(|own| own.key == *key && own.is_good(now)) {
        Some(same) => Ok(answer(same)),
        None => {
            let (why, subject) = (NotVouched::Wrong(Wrong::Taken), Some(vouched.subject));
            Err(refuse(edge, Refused { why, subject }, asked_by))
        }
    }
}

fn answer(key: &WebKey) -> pb::AcceptWebKeyResponse {
    let WebKey { id, user, until, .. } = key;
    pb::AcceptWebKeyResponse { id: id.to_string(), until_unix_ms: until.0, user: user.to_string() }
}

/// Tells in the log and in the trail why nobody is let in, and the user no more than they need.
fn refuse(edge: &Edge, Refused { why, subject }: Refused, asked_by: &str) -> Status {
    note(edge, &why.to_string(), subject.as_deref(), asked_by);
    let (reason, code, text) = told(&why);
    grpc::with_reason(Status::new(code, text), reason)
}

fn note(edge: &Edge, why: &str, subject: Option<&str>, asked_by: &str) {
    let settings = edge.site.settings();
    let issuer = settings.openid.as_ref().map_or("none", |openid| openid.issuer.as_str());
    let asked_by = printable(asked_by);
    // Each whom the provider knows has a share of the trail of their own; whoever forges tokens has one in all.
    let actor = subject.map_or_else(|| WEB.to_owned(), |subject| format!("openid/{subject}"));
    let actor: String = actor.chars().take(ACTOR_MAX).collect();
    let subject = subject.unwrap_or("unproven");
    tracing::warn!(issuer, subject, why, asked_by, "a login by OpenID Connect is refused");
    let detail = format!("issuer {issuer}, subject {subject}: {why}; asked for by {asked_by}");
    edge.journal.note(Note::new(actor, "openid-refused").detail(detail));
}

/// The stable reason, and what the user is told.
const fn told(why: &NotVouched) -> (&'static str, Code, &'static str) {
    match why {
        NotVouched::Off => (
            "OPENID_OFF",
            Code::FailedPrecondition,
            "logins by OpenID Connect are not set up on this broker",
        ),
        NotVouched::Wrong(Wrong::Time(_)) => (
            "OPENID_CLOCK",
            Code::PermissionDenied,
            "the clocks of the OpenID provider and of the broker differ",
        ),
        NotVouched::Wrong(Wrong::BeforeTurn | Wrong::Taken) => (
            "OPENID_AGAIN",
            Code::PermissionDenied,
            "this login was used before, or the brokers have just changed: log in again",
        ),
        NotVouched::Wrong(_) => (
            "OPENID_TOKEN",
            Code::PermissionDenied,
            "what the OpenID provider says of you does not count here",
        ),
        NotVouched::NoKeys(_) => (
            "OPENID_PROVIDER",
            Code::Unavailable,
            "the OpenID provider cannot be asked; try again in a moment",
        ),
        NotVouched::NoClaim(_)
        | NotVouched::OtherDomain(_)
        | NotVouched::NoUser(_)
        | NotVouched::System(_)
        | NotVouched::Groups(_) => (
            "OPENID_USER",
            Code::PermissionDenied,
            "your account at the OpenID provider has no desktop here",
        ),
        NotVouched::UsersDown(_) => (
            "USERS_DOWN",
            Code::Unavailable,
            "the user database does not answer; try again in a moment",
        ),
        NotVouched::Busy => (
            "BUSY",
            Code::ResourceExhausted,
            "too many logins are under way; try again in a moment",
        ),
    }
}
