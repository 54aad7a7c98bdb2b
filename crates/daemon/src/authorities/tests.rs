//! Who is trusted by a cross certificate, and who is not.

use vsm_core::UnixMillis;

use super::*;
use crate::{
    pki::{self, Signer, Wanted},
    tls::{Role, Tls},
};

/// An authority, by its files.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new(name: &str) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let (pem, key) = pki::make_authority(name, 30).unwrap();
        this.has("ca", (&pem, &key))
    }

    fn has(self, name: &str, (pem, key): (&str, &str)) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = |end: &str| self.0.path().join(format!("{name}.{end}"));
        std::fs::write(path("pem"), pem).unwrap();
        std::fs::write(path("key"), key).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path("key"), mode).unwrap();
        self
    }

    fn signer(&self) -> Signer {
        Signer::load(&self.0.path().join("ca.pem"), &self.0.path().join("ca.key")).unwrap()
    }

    fn pem(&self) -> String {
        self.signer().pem().to_owned()
    }

    /// An issuer, as a signer.
    fn issuer(&self) -> Self {
        let (pem, key) = self.signer().make_issuer("a", 30).unwrap();
        Self(tempfile::tempdir().unwrap()).has("ca", (&pem, &key))
    }

    fn vouches_for(&self, other: &str) -> String {
        self.signer().vouch(&Certificate::all(other)[0]).unwrap()
    }
}

fn wanted(role: Role) -> Wanted {
    let (name, roles, life) = ("lab7".to_owned(), vec![role], pki::DAY);
    Wanted { name, roles, addresses: Vec::new(), since: None, life }
}

/// What a host has whose certificate an issuer has signed, and its key.
fn signed(issuer: &Authority, role: Role, cross: &str) -> (String, String) {
    let (own, key) = issuer.signer().make(&wanted(role)).unwrap();
    (format!("{own}{}{cross}", issuer.pem()), key.to_string())
}

/// Whether a host that trusts these takes what another one shows.
fn takes(trusted: &str, (chain, key): &(String, String)) -> bool {
    let own = Authority::new("any");
    let (mine, private) = own.signer().make(&wanted(Role::Agent)).unwrap();
    assert!(!key.is_empty());
    // It trusts its own authority too, which signs nothing else.
    Tls::of(&format!("{trusted}{}", own.pem()), &mine, &private).unwrap().check(chain).is_ok()
}

/// Neither the length of a path that the old authority allows itself, nor that the names differ, stands in the way.
#[test]
fn who_knows_the_old_authority_alone_takes_certificates_of_the_new_one() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let cross = old.vouches_for(&new.pem());
    let agent = signed(&new.issuer(), Role::Agent, &cross);
    let broker = {
        let (own, key) = new.signer().make(&wanted(Role::Broker)).unwrap();
        (format!("{own}{cross}"), key.to_string())
    };
    for shown in [&agent, &broker] {
        assert!(takes(&old.pem(), shown) && takes(&new.pem(), shown));
        assert!(takes(&format!("{}{}", new.pem(), old.pem()), shown));
        assert!(!takes(&Authority::new("old").pem(), shown), "not by a namesake");
    }
    assert!(!takes(&old.pem(), &(broker.0.replace(&cross, ""), broker.1)), "by the cross alone");
    // The issuers of either sign for agents alone, also by way of a cross certificate.
    assert!(!takes(&old.pem(), &signed(&new.issuer(), Role::Broker, &cross)));
    assert!(!takes(&new.pem(), &signed(&new.issuer(), Role::Broker, &cross)));
    assert!(!takes(&old.pem(), &signed(&old.issuer(), Role::Broker, &cross)));
}

/// With the same name for both, too.
#[test]
fn a_new_authority_may_have_the_old_ones_name() {
    let (old, new) = (Authority::new("VSM cluster"), Authority::new("VSM cluster"));
    let cross = old.vouches_for(&new.pem());
    let agent = signed(&new.issuer(), Role::Agent, &cross);
    assert!(takes(&old.pem(), &agent) && takes(&new.pem(), &agent));
    let learned = learned(&old.pem(), &agent.0, &format!("{}{}", new.pem(), old.pem()));
    assert_eq!(learned.len(), 1);
}

#[test]
fn an_authority_is_learned_if_a_trusted_one_vouches_for_it() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let cross = old.vouches_for(&new.pem());
    let (issuer, both) = (new.issuer(), format!("{}{}", new.pem(), old.pem()));
    let chain = signed(&issuer, Role::Agent, &cross).0;
    let new_ones = learned(&old.pem(), &chain, &both);
    assert_eq!(new_ones.iter().map(|one| one.pem.as_str()).collect::<Vec<_>>(), [new.pem()]);
    assert_eq!(learned(&both, &chain, &both).len(), 0, "once");
    assert_eq!(learned(&old.pem(), &chain, &old.pem()).len(), 0, "nor one that is not offered");
}

/// What somebody with a broker and its issuer may try.
#[test]
fn a_broker_in_the_wrong_hands_brings_in_no_authority() {
    let (old, evil) = (Authority::new("old"), Authority::new("evil"));
    let issuer = old.issuer();
    let tries = |chain: &str, offered: &str| learned(&old.pem(), chain, offered).len();
    // One of its own; by its own word; by a word that the issuer has signed, which it may not.
    let chain = signed(&issuer, Role::Agent, "").0;
    assert_eq!(tries(&chain, &evil.pem()), 0);
    let chain = signed(&evil.issuer(), Role::Agent, &evil.vouches_for(&evil.pem())).0;
    assert_eq!(tries(&chain, &evil.pem()), 0);
    let cross = issuer.vouches_for(&evil.pem());
    let below = format!("{}{cross}{}", evil.issuer().pem(), issuer.pem());
    let (own, _) = issuer.signer().make(&wanted(Role::Agent)).unwrap();
    assert_eq!(tries(&format!("{own}{below}"), &evil.pem()), 0);
    let (own, _) = evil.issuer().signer().make(&wanted(Role::Agent)).unwrap();
    assert_eq!(tries(&format!("{own}{below}"), &evil.pem()), 0);
    // The issuer itself, as if it were an authority: the same key, under its name and under another.
    let chain = signed(&issuer, Role::Agent, "").0;
    assert_eq!(tries(&chain, &issuer.pem()), 0);
    let renamed = issuer.vouches_for(&issuer.pem());
    assert_eq!(tries(&format!("{chain}{renamed}"), &renamed), 0);
    // A cross certificate that is right, with another key behind the name that is offered.
    let new = Authority::new("new");
    let chain = signed(&new.issuer(), Role::Agent, &old.vouches_for(&new.pem())).0;
    assert_eq!(tries(&chain, &Authority::new("new").pem()), 0);
    assert_eq!(tries(&chain, &new.pem()), 1, "the control");
}

#[test]
fn an_authority_goes_once_the_broker_trusts_it_no_more_and_the_host_does_not_need_it() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = format!("# ours\n{}{}", new.pem(), old.pem());
    let by_new = signed(&new.issuer(), Role::Agent, "").0;
    let by_old = signed(&old.issuer(), Role::Agent, "").0;
    assert_eq!(left(&both, &by_new, &new.pem()), Some(new.pem()));
    assert_eq!(left(&both, &by_old, &new.pem()), None, "its own certificate is by that one");
    assert_eq!(left(&both, &by_new, &both), None);
    assert_eq!(left(&both, &by_new, ""), None, "nobody is left without any");
    assert_eq!(left(&old.pem(), &by_new, &new.pem()), None);
}

#[test]
fn it_is_told_which_authority_has_made_an_issuer() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let cross = old.vouches_for(&new.pem());
    let of = |trusted: &Authority, chain: &str| {
        signer_of_issuer(&Certificate::all(&trusted.pem()), &Certificate::all(chain))
    };
    let (by_old, by_new) = (old.issuer().pem(), new.issuer().pem());
    let key = |one: &Authority| Some(Certificate::all(&one.pem())[0].shown.key);
    assert_eq!([of(&old, &by_old), of(&new, &by_new)], [key(&old), key(&new)]);
    assert_eq!([of(&old, &by_new), of(&new, &by_old)], [None, None]);
    assert_eq!(of(&old, &format!("{by_new}{cross}")), key(&new), "as it is vouched for");
}

#[test]
fn an_authority_is_shown_by_its_name() {
    let (old, new) = (Authority::new("the old one"), Authority::new(&"x".repeat(64)));
    let shown = Certificate::all(&format!("junk\n{}junk", old.pem()));
    assert_eq!((shown.len(), shown[0].subject().as_str()), (1, "the old one"));
    assert_eq!(shown[0].pem, old.pem());
    assert!(shown[0].shown.until > UnixMillis(0) && shown[0].is_authoritys());
    assert_eq!(Certificate::all(&new.pem())[0].subject(), "x".repeat(64));
    for bad in ["", "a\nb", &"x".repeat(65)] {
        assert!(pki::make_authority(bad, 30).is_err(), "{bad:?}");
    }
    assert_eq!(common_name(&[0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 9, b'a']), None);
    let chain = Certificate::all(&signed(&old.issuer(), Role::Agent, "").0);
    assert!(is_by(&shown[0], &chain) && !is_by(&Certificate::all(&new.pem())[0], &chain));
}
