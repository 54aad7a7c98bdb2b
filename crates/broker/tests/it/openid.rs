//! Logins by OpenID Connect: a token of the site's provider lets in whom it names, by the key that it is for and once;
//! whatever else is handed in lets nobody in, and the trail says why.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tonic::{Code, Status};
use vsm_core::SshKey;
use vsm_daemon::{clock, grpc, openid, socket, web_key::WebKeys as _};
use vsm_proto::broker::v1::{
    AcceptWebKeyByTokenRequest, AcceptWebKeyResponse, RevokeWebKeyRequest,
    broker_client::BrokerClient, open_id_client::OpenIdClient,
};

use super::{
    forward::local,
    lab::{Lab, Node},
    life::until,
};

const ISSUER: &str = "https://login.example.org/realms/site";
/// Somebody whom each host has, and who is a system account where the site does not say otherwise.
const USER: &str = "daemon";

fn key(n: u32) -> SshKey {
    format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{n:0>43}").parse().unwrap()
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A provider, of which there is nothing but its key.
struct Provider {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Provider {
    fn new(id: &'static str) -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self { pair: EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap(), id }
    }

    /// Its public half.
    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": text(x), "y": text(y) })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.id });
        let body = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), body.as_bytes()).unwrap();
        format!("{body}.{}", text(signature))
    }
}

/// What a good token for this key says.
fn claims(n: u32) -> Value {
    let now = clock::unix_millis().0 / 1000;
    json!({
        "iss": ISSUER, "sub": "4711", "aud": "vsm", "nonce": openid::nonce(key(n).as_str()),
        "iat": now, "exp": now + 300, "preferred_username": USER,
    })
}

/// The claims with others in their place; null takes one away.
fn with(mut claims: Value, others: &Value) -> Value {
    let all = claims.as_object_mut().unwrap();
    for (name, value) in others.as_object().unwrap() {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// A pair whose site has this provider, and says this beside.
struct Site {
    lab: Lab,
    provider: Provider,
    dir: tempfile::TempDir,
}

impl Site {
    async fn new(more: &str) -> Self {
        let (lab, provider) = (Lab::with_b_active().await, Provider::new("k1"));
        let site = Self { lab, provider, dir: tempfile::tempdir().unwrap() };
        site.publish(&[&site.provider]);
        site.configure(more);
        site
    }

    fn publish(&self, providers: &[&Provider]) {
        let keys: Vec<_> = providers.iter().map(|provider| provider.jwk()).collect();
        std::fs::write(self.dir.path().join("keys"), json!({ "keys": keys }).to_string()).unwrap();
    }

    fn configure(&self, more: &str) {
        let keys = self.dir.path().join("keys");
        let yaml = format!(
            "vsmserver:\n  openid: {{issuer: '{ISSUER}', client_id: vsm, keys_file: {}, {more}}}\n",
            keys.display()
        );
        for node in [&self.lab.a, &self.lab.b] {
            node.has_agents(1, &yaml);
        }
    }

    async fn hand_in(
        &self,
        node: &Node,
        n: u32,
        token: &str,
    ) -> Result<AcceptWebKeyResponse, Status> {
        let request = AcceptWebKeyByTokenRequest {
            id_token: token.to_owned(),
            public_key: key(n).to_string(),
            lifetime_ms: 0,
            asked_by: "Firefox from 10.0.0.9".to_owned(),
        };
        let mut web = OpenIdClient::new(socket::channel(node.web.clone()));
        Ok(web.accept_web_key(request).await?.into_inner())
    }

    /// The reason for which it is refused.
    async fn refused(&self, n: u32, token: &str) -> String {
        let refused = self.hand_in(&self.lab.b, n, token).await;
        let status = refused.expect_err("it is let in");
        assert_eq!(self.lab.b.table().read(|view| view.table.web_keys().all().count()), 0);
        grpc::reason(&status).expect("a reason").to_owned()
    }

    async fn claims_refused(&self, others: Value) -> String {
        self.refused(1, &self.provider.sign(&with(claims(1), &others))).await
    }

    /// What the trail says of this.
    fn told(&self, action: &str) -> Vec<String> {
        self.lab.b.table().read(|view| {
            let events = view.table.events_after(0).filter(|event| event.action == action);
            events.map(|event| event.detail.clone()).collect()
        })
    }

    async fn tells(&self, action: &str, what: &str) {
        until(what, async || self.told(action).iter().any(|detail| detail.contains(what))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_whom_it_names_by_its_key_and_once() {
    let site = Site::new("first_uid: 1").await;
    let (lab, token) = (&site.lab, site.provider.sign(&claims(1)));
    // By the standby, which hands it on.
    let accepted = site.hand_in(&lab.a, 1, &token).await.unwrap();
    assert_eq!(accepted.user, USER);
    assert_eq!(site.hand_in(&lab.b, 1, &token).await.unwrap(), accepted, "an answer may be lost");
    for node in [&lab.a, &lab.b] {
        let known = async || node.broker.web_keys.offered(USER, &key(1)).is_some();
        until("both know the key", known).await;
    }
    let by_openid = || {
        lab.b
            .table()
            .read(|view| view.table.web_keys().all().map(|key| key.openid).collect::<Vec<_>>())
    };
    assert_eq!(by_openid(), [true]);
    site.tells("web-key-accepted", &format!("vouched for by {ISSUER} as 4711")).await;
    // Somebody else's key, with a token that was seen.
    let stolen = site.hand_in(&lab.b, 2, &token).await.unwrap_err();
    assert_eq!(grpc::reason(&stolen), Some("OPENID_TOKEN"), "{stolen}");
    assert_eq!(by_openid().len(), 1);

    let user = USER.parse().unwrap();
    let proposal = vsm_core::Proposal::WebKeys { user, asked: vsm_core::WebKeysAsked::RemoveAll };
    lab.b.table().propose(proposal).await.unwrap();
    assert_eq!(site.refused(1, &token).await, "OPENID_AGAIN", "logged out is out");
    site.tells("openid-refused", "subject 4711: the token is refused: it was taken before").await;
    // Nothing of it is another way to revoke, or to be somebody.
    let nobody = RevokeWebKeyRequest { id: String::new() };
    let refused =
        BrokerClient::new(socket::channel(lab.b.web.clone())).revoke_web_key(nobody).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let by_user = OpenIdClient::new(local(&lab.b))
        .accept_web_key(AcceptWebKeyByTokenRequest::default())
        .await;
    assert_eq!(by_user.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_thing_in_a_token_is_refused() {
    let site = Site::new("first_uid: 1").await;
    let now = clock::unix_millis().0 / 1000;
    let several = json!(["vsm", "other"]);
    for (others, reason) in [
        (json!({ "iss": "https://evil.example" }), "OPENID_TOKEN"),
        (json!({ "iss": format!("{ISSUER}/") }), "OPENID_TOKEN"),
        (json!({ "aud": "other" }), "OPENID_TOKEN"),
        (json!({ "aud": [] }), "OPENID_TOKEN"),
        (json!({ "aud": several }), "OPENID_TOKEN"),
        (json!({ "azp": "other" }), "OPENID_TOKEN"),
        (json!({ "nonce": "x" }), "OPENID_TOKEN"),
        (json!({ "nonce": openid::nonce(key(2).as_str()) }), "OPENID_TOKEN"),
        (json!({ "exp": now - 61 }), "OPENID_CLOCK"),
        (json!({ "iat": now + 90 }), "OPENID_CLOCK"),
        (json!({ "nbf": now + 90 }), "OPENID_CLOCK"),
        (json!({ "iat": now - 700 }), "OPENID_CLOCK"),
        (json!({ "iat": now - 300 }), "OPENID_AGAIN"),
        (json!({ "exp": null }), "OPENID_TOKEN"),
        (json!({ "iat": null }), "OPENID_TOKEN"),
        (json!({ "nonce": null }), "OPENID_TOKEN"),
        (json!({ "aud": null }), "OPENID_TOKEN"),
        (json!({ "exp": "9999999999" }), "OPENID_TOKEN"),
        (json!({ "aud": 7 }), "OPENID_TOKEN"),
    ] {
        assert_eq!(site.claims_refused(others.clone()).await, reason, "{others}");
    }
    site.tells("openid-refused", "subject 4711: the token is refused: it is by another issuer")
        .await;
    // What is there and does no harm.
    let fine = json!({ "aud": several, "azp": "vsm", "iat": format!("{now}.5").parse::<f64>().unwrap(), "nbf": now - 5 });
    let good = site.provider.sign(&with(claims(3), &fine));
    assert_eq!(site.hand_in(&site.lab.b, 3, &good).await.unwrap().user, USER);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_signature_of_the_provider_counts() {
    let site = Site::new("first_uid: 1").await;
    let good = site.provider.sign(&claims(1));
    let parts: Vec<&str> = good.split('.').collect();
    let none = text(json!({ "alg": "none" }).to_string());
    let public = site.provider.pair.public_key().as_ref().to_vec();
    let by_secret = |secret: &[u8]| {
        let header = text(json!({ "alg": "HS256", "kid": "k1" }).to_string());
        let body = format!("{header}.{}", parts[1]);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body.as_bytes());
        format!("{body}.{}", text(tag))
    };
    let mut forged = BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    forged[10] ^= 1;
    let root = text(with(claims(1), &json!({ "preferred_username": "bin" })).to_string());
    let critical = text(json!({ "alg": "ES256", "kid": "k1", "crit": ["x"] }).to_string());
    for bad in [
        String::new(),
        "a.b".to_owned(),
        "a.b.c.d".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{root}.{}", parts[0], parts[2]),
        format!("{critical}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], text(forged)),
        by_secret(&public),
        by_secret(site.provider.jwk().to_string().as_bytes()),
        Provider::new("k1").sign(&claims(1)),
        Provider::new("k2").sign(&claims(1)),
        "x".repeat(50_000),
    ] {
        assert_eq!(site.refused(1, &bad).await, "OPENID_TOKEN", "{bad}");
    }
    site.tells("openid-refused", "subject unproven: the token is refused").await;
    site.hand_in(&site.lab.b, 1, &good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_provider_has_changed_counts_as_it_says() {
    let site = Site::new("first_uid: 1").await;
    let next = Provider::new("k2");
    assert_eq!(site.refused(1, &next.sign(&claims(1))).await, "OPENID_TOKEN");
    site.publish(&[&site.provider, &next]);
    let lab = &site.lab;
    site.hand_in(&lab.b, 2, &next.sign(&claims(2))).await.unwrap();
    site.hand_in(&lab.b, 3, &site.provider.sign(&claims(3))).await.unwrap();
    site.publish(&[&next]);
    let old = site.hand_in(&lab.b, 4, &site.provider.sign(&claims(4))).await.unwrap_err();
    assert_eq!(grpc::reason(&old), Some("OPENID_TOKEN"));
    // A file with a key for something else, one with nothing, and none.
    let mut jwk = next.jwk();
    jwk["use"] = json!("enc");
    let file = site.dir.path().join("keys");
    for text in ["x".to_owned(), json!({ "keys": [jwk] }).to_string(), "{\"keys\": []}".to_owned()]
    {
        std::fs::write(&file, text).unwrap();
        let away = site.hand_in(&lab.b, 5, &next.sign(&claims(5))).await.unwrap_err();
        assert_eq!(grpc::reason(&away), Some("OPENID_PROVIDER"), "{away}");
    }
    std::fs::remove_file(&file).unwrap();
    let away = site.hand_in(&lab.b, 5, &next.sign(&claims(5))).await.unwrap_err();
    assert_eq!((away.code(), grpc::reason(&away)), (Code::Unavailable, Some("OPENID_PROVIDER")));
    site.tells("openid-refused", "/vsmserver/openid/keys_file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_means_a_user_of_this_host_or_nobody() {
    let site = Site::new("first_uid: 1").await;
    let named = |name: &str| json!({ "preferred_username": name });
    for others in [
        named("root"),
        named("nobody"),
        named("no-such-user"),
        named(""),
        named("daemon\n"),
        named("dae mon"),
        named("daemon\u{202e}"),
        named("-daemon"),
        named("daemon:x"),
        named("../daemon"),
        json!({ "preferred_username": null }),
        json!({ "preferred_username": ["daemon"] }),
        json!({ "preferred_username": 1 }),
    ] {
        assert_eq!(site.claims_refused(others.clone()).await, "OPENID_USER", "{others}");
    }
    site.tells("openid-refused", "root may not log in by OpenID Connect").await;
    // As it is where nobody says otherwise: a system account.
    site.configure("");
    assert_eq!(site.claims_refused(json!({})).await, "OPENID_USER");

    site.configure("first_uid: 1, claim: email, domain: Example.org");
    for (mail, verified) in [
        ("daemon@example.org", json!(false)),
        ("daemon@example.org", json!("true")),
        ("daemon@example.org", Value::Null),
        ("daemon@example.org.evil.example", json!(true)),
        ("daemon@evil.example", json!(true)),
        ("daemon", json!(true)),
        ("@example.org", json!(true)),
    ] {
        let others = json!({ "email": mail, "email_verified": verified });
        assert_eq!(site.claims_refused(others).await, "OPENID_USER", "{mail} {verified}");
    }
    let mail = json!({ "email": "daemon@EXAMPLE.ORG", "email_verified": true });
    let good = site.provider.sign(&with(claims(7), &mail));
    site.hand_in(&site.lab.b, 7, &good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_provider_and_of_the_host_both_hold() {
    let site = Site::new("first_uid: 1, allowed_groups: [desktops, staff]").await;
    for groups in [json!(null), json!([]), json!("other"), json!(["other"]), json!({ "staff": 1 })]
    {
        let others = json!({ "groups": groups });
        assert_eq!(site.claims_refused(others.clone()).await, "OPENID_USER", "{others}");
    }
    for (n, groups) in [(2, json!(["x", "staff"])), (3, json!("desktops"))] {
        let good = site.provider.sign(&with(claims(n), &json!({ "groups": groups })));
        site.hand_in(&site.lab.b, n, &good).await.unwrap();
    }
    let keys = site.dir.path().join("keys");
    let yaml = format!(
        "vsmserver:\n  allowed_groups: no-such-group\n  openid: {{issuer: '{ISSUER}', client_id: vsm, \
         keys_file: {}, first_uid: 1}}\n",
        keys.display()
    );
    site.lab.b.has_agents(1, &yaml);
    let refused = site.hand_in(&site.lab.b, 4, &site.provider.sign(&claims(4))).await.unwrap_err();
    assert_eq!(grpc::reason(&refused), Some("NOT_ALLOWED"));
    site.lab.b.has_agents(1, "");
    let off = site.hand_in(&site.lab.b, 4, &site.provider.sign(&claims(4))).await.unwrap_err();
    assert_eq!(grpc::reason(&off), Some("OPENID_OFF"));
}
