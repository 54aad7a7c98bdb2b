//! Logins by OpenID Connect: the authorization code flow, with PKCE. This program leads the browser to the site's
//! provider and fetches what that says of its user, and decides nothing: `vsmserver` looks at the token.
//!
//! Nothing is kept here between the two requests. What a login under way needs is in a cookie of its browser, and the
//! token is for the key whose private half is in there, so it is of use to nobody else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use uuid::Uuid;
use vsm_core::printable;
use vsm_daemon::{
    clock,
    https::Form,
    openid::{self, Provider, ProviderError},
};
use vsm_proto::broker::v1::AcceptWebKeyByTokenRequest;
use zeroize::Zeroizing;

use crate::{
    broker::{self, Accepted},
    cookie::{self, Cookie},
    error::{NotVouched, Refused},
    login::Browser,
    settings::{OpenIdSettings, Settings},
    ssh::{self, SEED},
};

/// The cookie of a login under way. It has to come along from the provider's page, so it is not `Strict`.
const NAME: &str = "__Host-vsm-openid";
/// How long a login at the provider may take.
const LOGIN_MAX: Duration = Duration::from_secs(600);
/// So long what a provider says of itself counts.
const KEEP: Duration = Duration::from_secs(600);
/// And so long that it cannot be asked.
const AWAY: Duration = Duration::from_secs(3);
/// Where the provider sends browsers back to, below this site's address.
pub(crate) const BACK: &str = "/openid/back";
/// Longest name of this site.
const HOST_MAX: usize = 255;

/// What is known of the provider.
#[derive(Debug, Default)]
pub(crate) struct OpenId {
    provider: Mutex<Option<Known>>,
}

/// What it has said, or why it has said nothing.
#[derive(Debug)]
struct Known {
    issuer: String,
    at: Instant,
    said: Result<Arc<Provider>, Arc<ProviderError>>,
}

impl Known {
    /// Whether it still counts. One that is away is asked again soon, but not by each who waits for it.
    fn counts(&self, issuer: &str) -> bool {
        let most = if self.said.is_ok() { KEEP } else { AWAY };
        self.issuer == issuer && self.at.elapsed() < most
    }
}

/// A login under way, as its browser has it.
struct Pending {
    /// Of the key that is to be accepted.
    seed: Zeroizing<[u8; SEED]>,
    /// Proves to the provider that whoever brings the code has begun the login.
    verifier: [u8; 32],
    /// Comes back with the code, so that nobody can have a browser end another one's login.
    state: [u8; 16],
}

/// What a browser comes back from the provider with.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// What a code is given for.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// Why the provider gives none.
#[derive(Deserialize)]
struct NoTokens {
    error: String,
}

impl OpenId {
    /// Begins a login: the cookie that the browser is to keep, and where it is to go.
    pub(crate) async fn begin(
        &self,
        settings: &Settings,
        headers: &HeaderMap,
    ) -> Result<(String, String), Refused> {
        let openid = set(settings)?;
        let provider = self.provider(openid).await?;
        let pending = Pending {
            seed: Zeroizing::new(rand::random()),
            verifier: rand::random(),
            state: rand::random(),
        };
        let challenge = Sha256::digest(text(&pending.verifier));
        let public = ssh::public(&ssh::key(&pending.seed)?)?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &openid.client_id)
            .append_pair("redirect_uri", &back(headers)?)
            .append_pair("scope", &openid.scopes)
            .append_pair("state", &text(&pending.state))
            .append_pair("nonce", &openid::nonce(&public))
            .append_pair("code_challenge", &text(&challenge))
            .append_pair("code_challenge_method", "S256");
        let endpoint = &provider.authorization_endpoint;
        let mark = if endpoint.contains('?') { '&' } else { '?' };
        Ok((pending.set(), format!("{endpoint}{mark}{}", query.finish())))
    }

    /// Ends it with what the browser has come back with: it is logged in, for so long.
    pub(crate) async fn end(
        &self,
        settings: &Settings,
        browser: Browser<'_>,
        headers: &HeaderMap,
        answer: Answer,
    ) -> Result<(Cookie, Duration), Refused> {
        let openid = set(settings)?;
        let declined = |text: &str| refused(NotVouched::Declined, text);
        let pending = Pending::of(headers).ok_or_else(|| declined("no login is under way"))?;
        if answer.state.as_deref() != Some(&text(&pending.state)) {
            return Err(declined("the state is that of another login"));
        }
        let provider = self.provider(openid).await?;
        let by_issuer = match &answer.iss {
            Some(iss) => *iss == openid.issuer,
            None => !provider.authorization_response_iss_parameter_supported,
        };
        if !by_issuer {
            return Err(declined("the answer is by another provider"));
        }
        if let Some(error) = &answer.error {
            return Err(declined(&format!("the provider says {}", printable(error))));
        }
        let code = answer.code.ok_or_else(|| declined("the provider gave no code"))?;
        let id_token = exchange(openid, &provider, &pending, &code, &back(headers)?).await?;
        let public_key = ssh::public(&ssh::key(&pending.seed)?)?;
        let request = AcceptWebKeyByTokenRequest {
            id_token,
            public_key,
            lifetime_ms: u64::try_from(settings.login_lifetime.as_millis()).unwrap_or(u64::MAX),
            asked_by: browser.to_string(),
        };
        let accepted = broker::accept_by_token(&openid.socket, request).await?;
        let Accepted { id, until_unix_ms, user } = accepted;
        let id: Uuid =
            id.parse().map_err(|_| Refused::Broke("the broker gave no id".to_owned()))?;
        let left = until_unix_ms.saturating_sub(clock::unix_millis().0);
        tracing::info!(user, %id, address = %browser.address, "logged in by OpenID Connect");
        Ok((Cookie { user, id, seed: pending.seed }, Duration::from_millis(left)))
    }

    async fn provider(&self, openid: &OpenIdSettings) -> Result<Arc<Provider>, Refused> {
        let mut known = self.provider.lock().await;
        let kept = known.take().filter(|known| known.counts(&openid.issuer));
        let Known { said, .. } = known.insert(match kept {
            Some(kept) => kept,
            None => {
                let said = openid::discover(&openid.https, &openid.issuer).await;
                let said = said.map(Arc::new).map_err(Arc::new);
                Known { issuer: openid.issuer.clone(), at: clock::now(), said }
            }
        });
        said.clone().map_err(|error| refused(NotVouched::Provider, &error.to_string()))
    }
}

fn set(settings: &Settings) -> Result<&OpenIdSettings, Refused> {
    settings.openid.as_ref().ok_or_else(|| refused(NotVouched::Off, "no provider is set"))
}

fn refused(why: NotVouched, text: &str) -> Refused {
    Refused::OpenId { why, text: text.to_owned() }
}

/// Gives the code for a token.
async fn exchange(
    openid: &OpenIdSettings,
    provider: &Provider,
    pending: &Pending,
    code: &str,
    back: &str,
) -> Result<String, Refused> {
    let away = |text: String| refused(NotVouched::Provider, &text);
    let sent = form(
        openid,
        provider,
        &[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", back),
            ("client_id", &openid.client_id),
            ("code_verifier", &text(&pending.verifier)),
        ],
    );
    let answer = openid.https.post(&provider.token_endpoint, sent).await;
    let answer = answer.map_err(|error| away(format!("the provider gives no token: {error}")))?;
    if answer.status != 200 {
        let why = serde_json::from_slice(&answer.body).map(|NoTokens { error }| printable(&error));
        let why = why.unwrap_or_else(|_| "no reason".to_owned());
        let text = format!("the provider gives no token: {} ({why})", answer.status);
        // A code that was used, or is too old: another login helps.
        let declined = answer.status == 400 && why == "invalid_grant";
        return Err(if declined { refused(NotVouched::Declined, &text) } else { away(text) });
    }
    let tokens: Result<Tokens, _> = serde_json::from_slice(&answer.body);
    let no_token =
        |error: serde_json::Error| away(format!("the provider gives no ID token: {error}"));
    Ok(tokens.map_err(no_token)?.id_token)
}

/// What is sent for a token, with the proof of who sends it.
fn form(openid: &OpenIdSettings, provider: &Provider, fields: &[(&str, &str)]) -> Form {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let Some(secret) = &openid.secret else {
        return Form { body: body.finish(), authorization: None };
    };
    let methods = &provider.token_endpoint_auth_methods_supported;
    let takes = |name: &str| methods.iter().any(|method| method == name);
    if !takes("client_secret_basic") && takes("client_secret_post") {
        body.append_pair("client_secret", secret);
        return Form { body: body.finish(), authorization: None };
    }
    // Both are encoded as in a form before they are joined (RFC 6749, 2.3.1).
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encoded(&openid.client_id), encoded(secret)));
    let value =
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    let authorization = value.ok().map(|mut value| {
        value.set_sensitive(true);
        value
    });
    Form { body: body.finish(), authorization }
}

/// Where the browser is to come back to: the name by which it knows this site. The provider lets only those be named
/// that it was told of.
fn back(headers: &HeaderMap) -> Result<String, Refused> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if host.is_empty() || host.len() > HOST_MAX || !host.chars().all(is_name) {
        return Err(refused(NotVouched::Declined, "the browser names no host"));
    }
    Ok(format!("https://{host}{BACK}"))
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Pending {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = cookie::value(headers, NAME)?.split('.');
        let mut next = || BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok();
        let (seed, verifier, state) = (Zeroizing::new(next()?), next()?, next()?);
        let mut whole = Zeroizing::new([0; SEED]);
        if parts.next().is_some() || seed.len() != SEED {
            return None;
        }
        whole.copy_from_slice(&seed);
        let (verifier, state) = (verifier.try_into().ok()?, state.try_into().ok()?);
        Some(Self { seed: whole, verifier, state })
    }

    fn set(&self) -> String {
        let (seed, verifier, state) =
            (text(self.seed.as_slice()), text(&self.verifier), text(&self.state));
        let seconds = LOGIN_MAX.as_secs();
        format!(
            "{NAME}={seed}.{verifier}.{state}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
        )
    }
}

/// The header that takes the cookie of a login under way from a browser.
pub(crate) fn unset() -> String {
    format!("{NAME}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}

#[cfg(test)]
mod tests {
    use vsm_daemon::https::Https;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn what_a_login_under_way_needs_is_in_the_browser() {
        let given = Pending { seed: Zeroizing::new([1; SEED]), verifier: [2; 32], state: [3; 16] };
        let set = given.set();
        assert!(set.ends_with("Secure; HttpOnly; SameSite=Lax"), "{set}");
        let value = set.split(';').next().unwrap();
        // The cookie of one who is logged in has a name that this one begins with.
        let line = format!("__Host-vsm=x.y.z; {value}");
        let read = Pending::of(&headers(&line)).unwrap();
        assert_eq!((*read.seed, read.verifier, read.state), ([1; SEED], [2; 32], [3; 16]));
        assert!(Cookie::of(&headers(value)).is_none());
        for bad in [&value[..value.len() - 3], &format!("{value}.AA"), "__Host-vsm-openid=.."] {
            assert!(Pending::of(&headers(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_browser_comes_back_to_the_name_that_it_used() {
        let host = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, name.parse().unwrap());
            back(&headers)
        };
        assert_eq!(host("tlha:8443").unwrap(), "https://tlha:8443/openid/back");
        for bad in ["", "a/b", "a b", "user@host", "a?b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert!(back(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_secret_goes_as_the_provider_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let own = rcgen::generate_simple_self_signed(["login.example".to_owned()]).unwrap();
        std::fs::write(&file, own.cert.pem()).unwrap();
        let openid = OpenIdSettings {
            issuer: "https://login.example".to_owned(),
            client_id: "a b".to_owned(),
            secret: Some(Zeroizing::new("p:%".to_owned())),
            https: Https::new(&file).unwrap(),
            button: String::new(),
            scopes: "openid".to_owned(),
            socket: "/nowhere".into(),
        };
        assert!(!format!("{openid:?}").contains("p:%"));
        let mut provider: Provider = serde_json::from_value(serde_json::json!({
            "issuer": "https://login.example", "authorization_endpoint": "", "token_endpoint": "", "jwks_uri": "",
        }))
        .unwrap();
        let basic = form(&openid, &provider, &[("code", "x&y")]);
        let wanted = format!("Basic {}", BASE64_STANDARD.encode("a+b:p%3A%25"));
        assert_eq!(basic.authorization.unwrap().to_str().unwrap(), wanted);
        assert_eq!(basic.body, "code=x%26y");
        provider.token_endpoint_auth_methods_supported = vec!["client_secret_post".to_owned()];
        let post = form(&openid, &provider, &[("code", "x")]);
        assert_eq!(
            (post.body.as_str(), post.authorization),
            ("code=x&client_secret=p%3A%25", None)
        );
    }
}
