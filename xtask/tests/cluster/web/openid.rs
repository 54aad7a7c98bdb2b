//! Logins by way of a provider of identities, in a real browser: alice has her desktop with her account there, as long
//! as what the provider says is true.

use serde_json::{Value, json};
use xtask::browser::{Browser, Kind};
use xtask::cluster::Fault;
use xtask::cluster::web::Factors;
use xtask::pair::{self, NODES};

use super::provider::{CLIENT, Lie, Provider, SECRET};
use super::{CONNECTED, PICTURE, SITE, becomes, log_in, obstacles, open, paint, shows};
use crate::pair_of_brokers::Pair;
use crate::service::WAIT;

/// Where the provider is.
const HOST: (&str, &str) = ("agent1", "10.0.0.11");

/// A pair whose site has a provider.
fn pair(name: &str) -> (Pair, Provider) {
    let pair = super::pair(name, 3, Factors::PasswordAndCode, pair::BARE_SCRIPT);
    let provider = Provider::up(&pair, HOST.0, HOST.1);
    for node in NODES {
        let issuer = &provider.issuer;
        pair.sh(
            node,
            &format!(
                "cp /etc/vsm/pki/ca.pem /etc/vsm/web/provider.pem && echo '{SECRET}' > /etc/vsm/web/secret && \
                 chgrp vsm-web /etc/vsm/web/secret && chmod 640 /etc/vsm/web/secret && \
                 vsm-config /vsmserver/openid/issuer={issuer} /vsmserver/openid/client_id={CLIENT} \
                 /vsmserver/openid/ca_file=/etc/vsm/web/provider.pem \
                 /vsmweb/openid/client_secret_file=/etc/vsm/web/secret && vsmctl reload"
            ),
        );
        pair.restart_daemon(node, "vsm-web").unwrap();
        let serves = "until curl -ks https://127.0.0.1/health; do sleep 0.1; done";
        pair.output(node, "root", &["timeout", "20", "sh", "-c", serves]).unwrap();
    }
    (pair, provider)
}

/// Goes to the provider and answers what it asks; what that was.
fn by_provider(browser: &Browser<'_>, user: &str) -> Vec<String> {
    browser.go(&format!("{SITE}login")).unwrap();
    browser.click("#openid").unwrap();
    browser.wait_css("input[name=password]", WAIT).unwrap();
    log_in(browser, user)
}

/// What is in the trail of logins that were refused.
fn refusals(pair: &Pair) -> Vec<String> {
    let (active, _) = pair.in_step();
    let all = pair.sh(active, "vsmctl events --output json");
    let all: Vec<Value> = serde_json::from_str(&all).unwrap();
    let refused = all.iter().filter(|event| event["action"] == "openid-refused");
    refused.map(|event| event["detail"].as_str().unwrap().to_owned()).collect()
}

fn logins(pair: &Pair) -> Vec<Value> {
    let (active, _) = pair.in_step();
    serde_json::from_str(&pair.sh(active, "vsmctl web list --output json")).unwrap()
}

#[test]
fn a_login_by_a_provider_outlives_the_broker() {
    let name = "web-openid";
    let (pair, provider) = pair(name);
    let browser = open(&pair, Kind::Chromium, name);
    browser.go(SITE).unwrap();
    assert_eq!(obstacles(&browser), [""; 0]);
    browser.picture("login").unwrap();
    assert_eq!(by_provider(&browser, "alice"), ["Account", "Password"]);
    becomes(&browser, CONNECTED, &json!(1));
    let session = paint(&pair, "alice", "#3050a0");
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    let cookies = browser.cookies().unwrap();
    let names: Vec<_> = cookies.iter().map(|cookie| cookie.name().to_owned()).collect();
    assert_eq!(names, ["__Host-vsm"], "of the login under way nothing is left");
    let all = logins(&pair);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0]["user"], &all[0]["came_by"]), (&json!("alice"), &json!("openid")));
    let table = pair.sh(pair.in_step().0, "vsmctl web list");
    assert!(table.contains("openid"), "{table}");
    let (active, _) = pair.in_step();
    let told = pair.sh(active, "vsmctl events --output json");
    assert!(told.contains(&format!("vouched for by {} as no-alice", provider.issuer)), "{told}");

    pair.inject(Fault::Cable { host: active.to_owned() });
    becomes(&browser, CONNECTED, &json!(2));
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    browser.picture("after-the-cable").unwrap();
    let asked = browser.execute("return document.querySelectorAll('form input').length", &[]);
    assert_eq!(asked.unwrap(), json!(0), "nothing is asked");
    pair.heal_all();
    assert_eq!(paint(&pair, "alice", "#a05030"), session, "the same desktop");
    shows(&browser, PICTURE, (200, 200), [0xa0, 0x50, 0x30]);
    // The other one takes logins too, also by a key that the provider has only now.
    provider.changes_key();
    let second = open(&pair, Kind::Chromium, "web-openid-2");
    by_provider(&second, "bob");
    becomes(&second, CONNECTED, &json!(1));
    assert_eq!(refusals(&pair), [""; 0]);
}

#[test]
fn what_a_provider_says_that_is_not_true_lets_nobody_in() {
    let name = "web-openid-lies";
    let (pair, provider) = pair(name);
    let browser = open(&pair, Kind::Chromium, name);
    let refused = |user: &str, words: &str| {
        by_provider(&browser, user);
        let error = browser.texts("#error").unwrap();
        assert!(error.iter().any(|text| text.contains(words)), "{user}: {error:?}");
        assert!(browser.cookies().unwrap().is_empty(), "{user}");
        assert_eq!(logins(&pair), [json!(null); 0], "{user}");
    };
    nobody_else_hands_anything_in(&pair);
    let no_word = "does not count here";
    for (lie, words) in [
        (Lie::Audience, no_word),
        (Lie::Nonce, no_word),
        (Lie::Issuer, no_word),
        (Lie::Expired, "clocks"),
        (Lie::OtherKey, no_word),
        (Lie::NoSignature, no_word),
        (Lie::Secret, no_word),
    ] {
        provider.lies(lie);
        refused("alice", words);
    }
    browser.picture("refused").unwrap();
    provider.lies(Lie::Nothing);
    for user in ["root", "vsmserver", "mallory", "alice\u{202e}"] {
        refused(user, "no desktop here");
    }
    the_trail_says_why(&pair, &provider);
    what_comes_back_is_what_was_begun(&browser);
    a_token_that_has_let_somebody_in_does_so_once(&pair, &provider, &browser);
    // Without the provider, people can use their names.
    drop(provider);
    for node in NODES {
        pair.restart_daemon(node, "vsm-web").unwrap();
    }
    browser
        .wait("the page that says so", WAIT, |browser| {
            browser.go(&format!("{SITE}openid")).map_err(|error| format!("{error:#}"))?;
            let said = browser.texts("#error").map_err(|error| format!("{error:#}"))?;
            if said.iter().any(|text| text.contains("cannot be reached")) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        })
        .unwrap();
    browser.go(&format!("{SITE}login")).unwrap();
    log_in(&browser, "alice");
    becomes(&browser, CONNECTED, &json!(1));
}

/// At the socket of vsm-web.
fn nobody_else_hands_anything_in(pair: &Pair) {
    let reach = "perl -MIO::Socket::UNIX -e \
                 'exit !IO::Socket::UNIX->new(Peer => \"/run/vsm-web/vsmserver.sock\")'";
    for node in NODES {
        assert!(!pair.exec(node, "alice", &["sh", "-c", reach]).unwrap().status.success());
        pair.sh(node, &format!("setpriv --reuid=nobody --regid=nogroup --groups=vsm-web {reach}"));
    }
}

fn the_trail_says_why(pair: &Pair, provider: &Provider) {
    let all = refusals(pair);
    for told in [
        "subject no-alice: the token is refused: it is for another client",
        "subject no-alice: the token is refused: its nonce is not that of the key",
        "subject no-alice: the token is refused: it is by another issuer",
        "subject no-alice: the token is refused: it has expired",
        "subject unproven: the token is refused: it is by no key of the provider",
        "subject unproven: the token is refused: it is no token",
        "subject unproven: the token is refused: it is signed by HS256",
        "subject no-root: root may not log in by OpenID Connect",
        "subject no-vsmserver: vsmserver may not log in",
        "subject no-mallory: \"mallory\" is nobody's login name here",
    ] {
        assert!(all.iter().any(|detail| detail.contains(told)), "no {told:?} in {all:#?}");
    }
    let issuer = format!("issuer {}", provider.issuer);
    assert!(all.iter().all(|detail| detail.contains(&issuer)), "{all:#?}");
}

/// Who is not let in by the provider is not let in here, and nobody ends what another one has begun.
fn what_comes_back_is_what_was_begun(browser: &Browser<'_>) {
    browser.go(SITE).unwrap();
    browser.click("#openid").unwrap();
    browser.wait_css("input[name=password]", WAIT).unwrap();
    browser.fill("input[name=user]", "alice").unwrap();
    browser.fill("input[name=password]", "wrong").unwrap();
    super::submit(browser);
    assert!(browser.texts("#error").unwrap()[0].contains("not logged in at your organisation"));
    browser.go(&format!("{SITE}openid/back?code=x&state=y")).unwrap();
    assert!(browser.texts("#error").unwrap()[0].contains("begin again"));
}

/// Logged out is out, whoever has seen the token.
fn a_token_that_has_let_somebody_in_does_so_once(
    pair: &Pair,
    provider: &Provider,
    browser: &Browser<'_>,
) {
    by_provider(browser, "alice");
    becomes(browser, CONNECTED, &json!(1));
    pair.sh(pair.in_step().0, "vsmctl web revoke --user alice");
    provider.lies(Lie::Replay);
    by_provider(browser, "alice");
    let error = browser.texts("#error").unwrap();
    assert!(error.iter().any(|text| text.contains("does not count here")), "{error:?}");
    assert_eq!(logins(pair), [json!(null); 0]);
}
