//! What a daemon cannot do at the moment: what, since when, and the next step. `vsmctl agent list`, `vsmctl ha status`
//! and `vsmctl status` show it, so that nobody has to find it in a log.
//!
//! Whoever finds something wrong [raises](Troubles::raise) it, and says when it is [over](Troubles::over). Both are
//! logged here, once for each change.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use vsm_core::UnixMillis;
use vsm_proto::agent::v1 as pb;

use crate::clock;

/// Troubles of one kind at a time, so that none keeps others out of the list. What is beyond has as many like it in the
/// list.
pub const TROUBLES_MAX: usize = 16;
/// Troubles of one daemon at a time.
pub const ALL_MAX: usize = TROUBLES_MAX * Kind::ALL.len();
/// Characters of a text.
pub const TEXT_MAX: usize = 400;

/// What kind of trouble it is. The words are stable, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A session host changes nothing: what it had promised is not known.
    Promise,
    /// A configuration was refused, or a part of it is left out.
    Configuration,
    /// No desktop can be started, or names of displays are taken by others.
    Displays,
    /// A socket that users need is not served.
    Socket,
    /// Something cannot be written.
    Disk,
    /// What a session left behind could not be ended or removed.
    Remains,
    /// The user database does not answer.
    Users,
    /// A program in a folder of hooks is not run.
    Hooks,
    /// No mail can be sent.
    Mail,
    /// The resource address does not resolve.
    Address,
    /// The program that moves the resource address does not run.
    HaSoftware,
    /// What an agent or a broker says is refused, as it cannot be.
    Refused,
    /// A host does not answer as a witness.
    Witness,
    /// Limits of sessions cannot be told to their agent, or do not hold there.
    Limits,
    /// A host failed the last start that was asked of it.
    Start,
    /// The session table was damaged, or of a life that is over, and was set aside.
    Table,
    /// A certificate ends soon, or has ended.
    Certificate,
    /// Certificates cannot be renewed or signed, or those that are revoked are not all known.
    Identity,
    /// The trail of events is not exported.
    Trail,
    /// Something was changed that the daemon takes at its start only.
    Restart,
    /// Users do not come in by this host's sshd.
    Ssh,
    /// The PAM service that desktops are opened with is not there.
    Pam,
    /// Nobody but root can log in at a broker.
    #[serde(rename = "nologin")]
    NoLogin,
    /// The clock of a host differs from the broker's.
    Clock,
    /// The broker's helper, which is root, does not answer.
    RootHelper,
    /// It has almost as many files and sockets open as it may.
    Descriptors,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Promise,
        Self::Configuration,
        Self::Displays,
        Self::Socket,
        Self::Disk,
        Self::Remains,
        Self::Users,
        Self::Hooks,
        Self::Mail,
        Self::Address,
        Self::HaSoftware,
        Self::Refused,
        Self::Witness,
        Self::Limits,
        Self::Start,
        Self::Table,
        Self::Certificate,
        Self::Identity,
        Self::Trail,
        Self::Restart,
        Self::Ssh,
        Self::Pam,
        Self::NoLogin,
        Self::Clock,
        Self::RootHelper,
        Self::Descriptors,
    ];

    /// Its stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promise => "promise",
            Self::Configuration => "configuration",
            Self::Displays => "displays",
            Self::Socket => "socket",
            Self::Disk => "disk",
            Self::Remains => "remains",
            Self::Users => "users",
            Self::Hooks => "hooks",
            Self::Mail => "mail",
            Self::Address => "address",
            Self::HaSoftware => "ha-software",
            Self::Refused => "refused",
            Self::Witness => "witness",
            Self::Limits => "limits",
            Self::Start => "start",
            Self::Table => "table",
            Self::Certificate => "certificate",
            Self::Identity => "identity",
            Self::Trail => "trail",
            Self::Restart => "restart",
            Self::Ssh => "ssh",
            Self::Pam => "pam",
            Self::NoLogin => "nologin",
            Self::Clock => "clock",
            Self::RootHelper => "root-helper",
            Self::Descriptors => "descriptors",
        }
    }

    /// The next step of whoever reads it.
    #[must_use]
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::Promise => {
                "a pair mends it by itself once both brokers are in sync; with one broker, make sure that no replaced one \
                 runs, remove the file and restart vsmagent"
            }
            Self::Configuration => {
                "mend what it names, check it with vsm-config check, and load it with a reload"
            }
            Self::Displays => {
                "ss -xa src '*X11-unix*' there shows whose they are; end those, or move display_numbers"
            }
            Self::Socket => {
                "see that the folder is there and nobody else's, and restart the daemon"
            }
            Self::Disk => "make room there, or replace the disk",
            Self::Remains => "ps there shows what is left: end it, then remove the folder",
            Self::Users => "see getent passwd there, and SSSD or whatever answers it",
            Self::Hooks => "mend what it says, or take the file away",
            Self::Mail => {
                "install it, name another in /vsmserver/mail_program, or empty /vsmserver/admin_email"
            }
            Self::Address => {
                "see getent hosts with that name, or give /vsmserver/HA/resource_address as an address"
            }
            Self::HaSoftware => {
                "systemctl status keepalived there, or crm status, says why; start it"
            }
            Self::Refused => {
                "see whether each broker and each host there is the one that it should be"
            }
            Self::Witness => "journalctl -u vsmagent there says why",
            Self::Limits => {
                "journalctl -u vsmagent there says why; an older agent is to be upgraded"
            }
            Self::Start => {
                "mend what it says; journalctl -u vsmagent there has more; it takes its turn again when the penalty is over, and a start that works ends this"
            }
            Self::Table => "look whether anything of it is missed, then remove that file",
            Self::Certificate => {
                "issue a new one (vsmctl agent enrol, vsmctl pki issue; for an authority: vsmctl pki init elsewhere, then one for each host) to that place; the daemon takes it within a minute, or at once by a reload"
            }
            Self::Identity => {
                "mend what it says; vsmctl pki issuer makes a new issuer for a broker, vsmctl agent enrol gives a host a new certificate"
            }
            Self::Trail => {
                "mend what it names: what waits is exported then; /vsmserver/trail says where to"
            }
            Self::Restart => "restart that daemon there, which ends no desktop, or change it back",
            Self::Ssh => {
                "systemctl status ssh, and sshd -T | grep subsystem, say what is missing there; mend it and reload sshd"
            }
            Self::Pam => {
                "correct /vsmagent/pam_service, or bring the file back, from the package (apt install --reinstall -o Dpkg::Options::=--force-confmiss vsm-agent) or another host"
            }
            Self::NoLogin => "remove the file when the work there is done",
            Self::Clock => "timedatectl on both shows which is wrong; let both keep time with NTP",
            Self::RootHelper => {
                "systemctl status vsm-root there says why; start it with systemctl start vsm-root"
            }
            Self::Descriptors => {
                "ss -p there shows whose connections they are; LimitNOFILE= in a drop-in for that daemon raises the limit"
            }
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which kind.
    pub kind: Kind,
    /// What, with the cause, in one line.
    pub what: String,
    /// Since when.
    pub since: UnixMillis,
    /// Until when it counts, where nobody finds out that it is over.
    #[serde(skip)]
    until: Option<Instant>,
}

impl From<&Trouble> for pb::Trouble {
    fn from(trouble: &Trouble) -> Self {
        Self {
            kind: trouble.kind.word().to_owned(),
            what: trouble.what.clone(),
            since_unix_ms: trouble.since.0,
            next_step: trouble.kind.next_step().to_owned(),
        }
    }
}

type All = BTreeMap<(Kind, String), Trouble>;

/// All troubles of a daemon, or those that it has with one host. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// With which host; empty = the daemon's own.
    host: String,
    all: Mutex<All>,
    changes: watch::Sender<()>,
}

impl Troubles {
    /// Those that a daemon has with a host.
    #[must_use]
    pub fn with(host: impl Into<String>) -> Self {
        Self(Arc::new(Inner { host: host.into(), ..Inner::default() }))
    }

    /// Something is wrong: with what, of one kind, and why. The same again is no news.
    pub fn raise(&self, kind: Kind, about: &str, what: impl Into<String>) {
        self.put(kind, about, &what.into(), None);
    }

    /// A configuration that was to be taken is bad. The log has it each time: whoever asked for it looks there.
    pub fn configuration_refused(&self, error: &dyn fmt::Display) {
        tracing::error!(%error, "the new configuration is bad; the old one stays");
        let what = format!("a new configuration is bad, and the old one stays: {error}");
        self.raise(Kind::Configuration, "", what);
    }

    /// The same where nobody finds out that it is over: it is, after so long without the same again.
    pub fn raise_for(&self, lasts: Duration, kind: Kind, about: &str, what: impl Into<String>) {
        self.put(kind, about, &what.into(), Some(clock::now() + lasts));
    }

    fn put(&self, kind: Kind, about: &str, what: &str, until: Option<Instant>) {
        let what = what.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let what: String = what.chars().take(TEXT_MAX).collect();
        {
            let mut all = self.all();
            let key = (kind, about.to_owned());
            if let Some(known) = all.get_mut(&key) {
                known.until = until;
                if known.what == what {
                    return;
                }
                known.what.clone_from(&what);
            } else if all.keys().filter(|(of, _)| *of == kind).count() >= TROUBLES_MAX {
                return tracing::debug!(
                    host = self.0.host,
                    kind = kind.word(),
                    about,
                    what,
                    "one more trouble"
                );
            } else {
                let since = clock::unix_millis();
                all.insert(key, Trouble { kind, what: what.clone(), since, until });
            }
        }
        tracing::warn!(host = self.0.host, kind = kind.word(), about, what, "trouble");
        self.0.changes.send_replace(());
    }

    /// It is over, if it was there.
    pub fn over(&self, kind: Kind, about: &str) {
        if self.all().remove(&(kind, about.to_owned())).is_some() {
            tracing::info!(host = self.0.host, kind = kind.word(), about, "trouble is over");
            self.0.changes.send_replace(());
        }
    }

    /// What is wrong of a kind, of all that is about something whose name begins with `group`: these, each with what it
    /// is about, and no others. Whoever looks at a whole kind (`group` is empty) is the only one who raises it.
    pub fn only(&self, kind: Kind, group: &str, now: &[(String, String)]) {
        self.end(|of, about, _| {
            *of == kind && about.starts_with(group) && !now.iter().any(|(other, _)| other == about)
        });
        for (about, what) in now {
            self.raise(kind, about, what.clone());
        }
    }

    /// Ends those whose time is over.
    pub fn expire(&self) {
        let now = clock::now();
        self.end(|_, _, trouble| trouble.until.is_some_and(|until| until <= now));
    }

    fn end(&self, is_over: impl Fn(&Kind, &str, &Trouble) -> bool) {
        let gone: Vec<(Kind, String)> = {
            let all = self.all();
            let gone = all.iter().filter(|((kind, about), trouble)| is_over(kind, about, trouble));
            gone.map(|(key, _)| key.clone()).collect()
        };
        for (kind, about) in gone {
            self.over(kind, &about);
        }
    }

    /// Raises what is wrong, or says that nothing is any more.
    pub fn set(&self, kind: Kind, about: &str, wrong: Option<String>) {
        match wrong {
            Some(what) => self.raise(kind, about, what),
            None => self.over(kind, about),
        }
    }

    /// What is wrong now, by kind.
    #[must_use]
    pub fn now(&self) -> Vec<Trouble> {
        self.all().values().cloned().collect()
    }

    /// What another daemon of this host told, and what is wrong here; what both say counts once.
    #[must_use]
    pub fn with_those(&self, told: &[Trouble]) -> Vec<pb::Trouble> {
        let own = self.now();
        let is_told = |one: &Trouble| {
            told.iter().any(|other| (other.kind, &other.what) == (one.kind, &one.what))
        };
        told.iter().chain(own.iter().filter(|one| !is_told(one))).map(Into::into).collect()
    }

    /// What is wrong about one thing.
    #[must_use]
    pub fn of(&self, kind: Kind, about: &str) -> Option<Trouble> {
        self.all().get(&(kind, about.to_owned())).cloned()
    }

    /// The same as it is told to others.
    #[must_use]
    pub fn messages(&self) -> Vec<pb::Trouble> {
        self.all().values().map(Into::into).collect()
    }

    /// Wakes with each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    fn all(&self) -> parking_lot::MutexGuard<'_, All> {
        self.0.all.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_trouble_stands_from_when_it_was_first_raised_until_it_is_over() {
        let troubles = Troubles::default();
        let mut changes = troubles.changes();
        troubles.raise(Kind::Mail, "", "no such program\nand more");
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let first = troubles.now();
        assert_eq!(first[0].what, "no such program; and more");
        troubles.raise(Kind::Mail, "", "no such program\nand more");
        assert!(!changes.has_changed().unwrap(), "the same again");
        troubles.raise(Kind::Mail, "", "it ended with 1");
        assert_eq!((troubles.now()[0].since, troubles.now().len()), (first[0].since, 1));
        troubles.over(Kind::Mail, "other");
        assert_eq!(troubles.now().len(), 1);
        troubles.over(Kind::Mail, "");
        assert_eq!(troubles.now(), []);
    }

    #[test]
    fn there_are_never_more_than_fit() {
        let troubles = Troubles::default();
        for n in 0..2 * TROUBLES_MAX {
            troubles.raise(Kind::Remains, &n.to_string(), "x".repeat(2 * TEXT_MAX));
        }
        assert_eq!(troubles.now().len(), TROUBLES_MAX);
        assert_eq!(troubles.now()[0].what.len(), TEXT_MAX);
    }

    #[test]
    fn no_kind_keeps_another_out_of_the_list() {
        let troubles = Troubles::default();
        for n in 0..2 * ALL_MAX {
            troubles.raise(Kind::Remains, &n.to_string(), "a user's");
        }
        troubles.raise(Kind::Disk, "", "full");
        assert!(troubles.of(Kind::Disk, "").is_some());
    }

    #[test]
    fn what_is_not_said_again_is_over_after_its_time() {
        let troubles = Troubles::default();
        troubles.raise_for(Duration::from_secs(3600), Kind::Witness, "", "silent");
        troubles.raise(Kind::Disk, "", "full");
        troubles.expire();
        assert_eq!(troubles.now().len(), 2);
        troubles.raise_for(Duration::ZERO, Kind::Witness, "", "silent");
        troubles.expire();
        assert_eq!(
            troubles.now().iter().map(|trouble| trouble.kind).collect::<Vec<_>>(),
            [Kind::Disk]
        );
    }

    #[test]
    fn of_a_group_only_what_is_there_now_stays() {
        let troubles = Troubles::default();
        let named = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "bad".to_owned())).collect()
        };
        troubles.only(Kind::Hooks, "start", &named(&["start a", "start b"]));
        troubles.only(Kind::Hooks, "reconnect", &named(&["reconnect a"]));
        troubles.only(Kind::Hooks, "start", &named(&["start b"]));
        let about = |name| troubles.of(Kind::Hooks, name).is_some();
        assert_eq!((about("start a"), about("start b"), about("reconnect a")), (false, true, true));
    }

    #[test]
    fn what_two_daemons_of_a_host_say_alike_is_told_once() {
        let [own, other] = [Troubles::default(), Troubles::default()];
        own.raise(Kind::Configuration, "", "bad");
        own.raise(Kind::Certificate, "", "ends");
        other.raise(Kind::Configuration, "", "bad");
        other.raise(Kind::Disk, "", "full");
        let line = serde_json::to_vec(&other.now()).unwrap();
        let told: Vec<Trouble> = serde_json::from_slice(&line).unwrap();
        assert_eq!(told, other.now());
        let kinds: Vec<_> = own.with_those(&told).into_iter().map(|one| one.kind).collect();
        assert_eq!(kinds, ["configuration", "disk", "certificate"]);
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }

    #[test]
    fn each_kind_has_a_word_of_its_own_in_the_guide() {
        let words: BTreeSet<_> = Kind::ALL.map(Kind::word).into();
        assert_eq!(words.len(), Kind::ALL.len());
        let guide = include_str!("../../../docs/operate.md");
        let kinds: Vec<&str> = guide.lines().filter_map(|line| line.split('|').nth(1)).collect();
        for word in words {
            let known = kinds.iter().any(|cell| cell.contains(&format!("`{word}`")));
            assert!(known, "docs/operate.md does not know {word}");
        }
    }
}
