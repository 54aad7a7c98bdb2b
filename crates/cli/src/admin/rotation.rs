//! `vsmctl pki rotate status` and `finish`: which hosts know the new authority and have certificates of it, as a broker
//! sees them now, and the end once all do.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use vsm_daemon::{authorities::Certificate, grpc};
use vsm_proto::admin::v1::{self as pb, identities_client::IdentitiesClient};

use super::{AdminOptions, few};
use crate::{
    broker::with_deadline,
    exit::Failure,
    output::{self, Columns},
    pki::rotate::{self, Stage},
};

/// The broker looks at hosts for two minutes at most.
const LOOK_DEADLINE: Duration = Duration::from_secs(180);
/// Hosts that a refusal names.
const NAMED_MAX: usize = 16;

/// Where the authority is kept.
#[derive(Debug, Args)]
pub struct RotateStatusArgs {
    /// Directory of the authority
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/ca")]
    dir: PathBuf,
}

/// The same, and whether hosts are to be left behind.
#[derive(Debug, Args)]
pub struct RotateFinishArgs {
    /// Directory of the authority
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/ca")]
    dir: PathBuf,
    /// Finish even if hosts are not there yet, or no broker can be asked; they come back by vsmctl agent enrol
    #[arg(long)]
    force: bool,
}

/// An authority of a rotation; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct AuthorityRecord {
    subject: String,
    key: String,
    until: Option<String>,
}

impl AuthorityRecord {
    fn of(one: &Certificate) -> Self {
        Self {
            subject: one.subject(),
            key: one.shown.key.to_string(),
            until: output::time(one.shown.until.0),
        }
    }
}

/// A host; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct HostRow {
    role: String,
    name: String,
    trusts: Vec<String>,
    by: Vec<String>,
    ready: bool,
    remark: Option<String>,
    #[serde(skip)]
    words: [String; 2],
}

impl Columns for HostRow {
    const HEADINGS: &'static [&'static str] =
        &["ROLE", "NAME", "TRUSTS", "CERTIFICATE BY", "READY", "REMARK"];

    fn cells(&self) -> Vec<String> {
        let [trusts, by] = self.words.clone();
        let ready = if self.ready { "yes" } else { "NO" }.to_owned();
        let remark = output::or_dash(self.remark.clone());
        vec![self.role.clone(), self.name.clone(), trusts, by, ready, remark]
    }
}

/// What `vsmctl pki rotate status` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct RotationRecord {
    stage: &'static str,
    old: Option<AuthorityRecord>,
    new: Option<AuthorityRecord>,
    ready: bool,
    hosts: Vec<HostRow>,
}

fn has(keys: &[String], one: &Certificate) -> bool {
    keys.contains(&one.shown.key.to_string())
}

/// A rotation of which hosts are asked.
struct Rotation<'a> {
    old: &'a Certificate,
    new: &'a Certificate,
    is_over: bool,
    /// The broker that signs, and the authority by which its issuer is.
    signs: (String, String),
}

impl<'a> Rotation<'a> {
    const fn new(old: &'a Certificate, new: &'a Certificate, is_over: bool) -> Self {
        Self { old, new, is_over, signs: (String::new(), String::new()) }
    }

    async fn look(&mut self, options: &AdminOptions) -> Result<Vec<HostRow>, Failure> {
        let mut client = IdentitiesClient::new(options.channel().await?)
            .max_decoding_message_size(grpc::MESSAGE_MAX);
        let request = with_deadline(pb::ListAuthoritiesRequest { hosts: true }, LOOK_DEADLINE);
        let answer = client.list_authorities(request).await?.into_inner();
        self.signs = (answer.node, answer.signs_by);
        Ok(answer.hosts.into_iter().map(|host| self.row(host)).collect())
    }

    /// `old`, `new`, or the first digits of another one.
    fn words(&self, keys: &[String]) -> String {
        let (old, new) = (self.old.shown.key.to_string(), self.new.shown.key.to_string());
        let word = |key: &String| match key {
            key if *key == old => "old".to_owned(),
            key if *key == new => "new".to_owned(),
            key => key.parse().map_or_else(|_| "?".to_owned(), rotate::short),
        };
        let mut words: Vec<String> = keys.iter().map(word).collect();
        words.sort();
        words.dedup();
        if words.is_empty() { "-".to_owned() } else { words.join(" ") }
    }

    fn row(&self, host: pb::HostTrust) -> HostRow {
        let (trusts_new, trusts_old) = (has(&host.trusts, self.new), has(&host.trusts, self.old));
        let is_there = host.why.is_empty() && trusts_new && has(&host.by, self.new);
        let ready = is_there && !(self.is_over && trusts_old);
        let remark = (!ready).then(|| self.remark(&host));
        let words = [self.words(&host.trusts), self.words(&host.by)];
        let pb::HostTrust { role, name, trusts, by, .. } = host;
        HostRow { role, name, trusts, by, ready, remark, words }
    }

    /// What is missing at a host, and the next step.
    fn remark(&self, host: &pb::HostTrust) -> String {
        let name = &host.name;
        if !host.why.is_empty() {
            return format!("not seen: {}", host.why);
        }
        let roles = host.roles.iter().map(|role| format!(" --role {role}")).collect::<String>();
        let addresses = host.addresses.iter().map(|address| format!(" --address {address}"));
        let issue =
            format!("vsmctl pki issue {name}{roles}{} --out {name}", addresses.collect::<String>());
        match (host.role.as_str(), host.renews) {
            // What it is renewed with would be the old one's again.
            ("agent", true) if self.signs.1 != self.new.shown.key.to_string() => {
                format!("a new issuer for {} first (vsmctl pki issuer)", self.signs.0)
            }
            ("agent", true) => format!("vsmctl pki renew agent/{name}"),
            ("agent", false) => {
                format!("vsmctl agent enrol {name}, or {issue}, as it was issued by hand")
            }
            _ if self.is_over && has(&host.by, self.new) => {
                "ca.pem of the authority to /etc/vsm/pki there, vsmctl reload there".to_owned()
            }
            _ => format!(
                "{issue}; vsmctl pki issuer {name} --out {name}; all files to /etc/vsm/pki there, vsmctl reload there"
            ),
        }
    }
}

/// `vsmctl pki rotate status`.
///
/// # Errors
/// If there is no authority, or the broker cannot be asked.
pub async fn rotate_status(
    options: &AdminOptions,
    arguments: &RotateStatusArgs,
) -> Result<(), Failure> {
    let (stage, old, new) = match Stage::of(&arguments.dir)? {
        Stage::None(signs) => {
            let record = RotationRecord {
                stage: "none",
                old: None,
                new: Some(AuthorityRecord::of(&signs)),
                ready: true,
                hosts: Vec::new(),
            };
            let text = format!(
                "No rotation is on: {} signs. vsmctl pki rotate begin makes another one.\n",
                rotate::named(&signs)
            );
            return output::report(options.output, &record, |_| text);
        }
        Stage::Ending => return Err(Failure::new(1, rotate::INTERRUPTED)),
        Stage::Begun { old, new } => ("begun", old, new),
        Stage::Over { old, new } => ("finished", old, new),
    };
    let mut rotation = Rotation::new(&old, &new, stage == "finished");
    let hosts = rotation.look(options).await?;
    let ready = hosts.iter().all(|host| host.ready);
    let record = RotationRecord {
        stage,
        old: Some(AuthorityRecord::of(&old)),
        new: Some(AuthorityRecord::of(&new)),
        ready,
        hosts,
    };
    output::report(options.output, &record, |record| {
        let verb = if rotation.is_over { "has followed" } else { "follows" };
        let missing = record.hosts.iter().filter(|host| !host.ready).count();
        let next = match (missing, rotation.is_over) {
            (0, false) => {
                "All brokers and agents are there. Give hosts of administrators and observers, which are not looked at, new \
                 files too; then vsmctl pki rotate finish."
                    .to_owned()
            }
            (0, true) => "No broker and no agent trusts the old one any more: destroy its key.".to_owned(),
            (n, _) => format!("{n} of {} host(s) are not there yet.", record.hosts.len()),
        };
        format!(
            "{} {verb} {}.\n\n{}\n{next}\n",
            capital(&rotate::named(&new)),
            rotate::named(&old),
            output::table(&record.hosts)
        )
    })
}

/// `vsmctl pki rotate finish`.
///
/// # Errors
/// If hosts are not there yet, no broker can be asked, or the files cannot be moved.
pub async fn rotate_finish(
    options: &AdminOptions,
    arguments: &RotateFinishArgs,
) -> Result<(), Failure> {
    let RotateFinishArgs { dir, force } = arguments;
    let mut is_forced = false;
    match Stage::of(dir)? {
        Stage::None(_) | Stage::Over { .. } => {
            return Err(Failure::new(1, "no rotation is on: vsmctl pki rotate begin begins one"));
        }
        // It was found that it may end.
        Stage::Ending => {}
        Stage::Begun { old, new } => match Rotation::new(&old, &new, false).look(options).await {
            Ok(hosts) => {
                let not = hosts.iter().filter(|host| !host.ready);
                let not: Vec<String> =
                    not.map(|host| format!("{}/{}", host.role, host.name)).collect();
                match (not.is_empty(), force) {
                    (true, _) => {}
                    (false, true) => {
                        is_forced = true;
                        output::say(&format!("Left behind: {}.", few(&not, NAMED_MAX)))?;
                    }
                    (false, false) => return Err(Failure::new(1, not_there(&not))),
                }
            }
            Err(error) if !force => return Err(error),
            Err(error) => {
                is_forced = true;
                output::say(&format!(
                    "Nobody knows who is left behind, as no broker says: {error}"
                ))?;
            }
        },
    }
    let aside = rotate::end(dir)?;
    let (dir, aside) = (dir.display(), aside.display());
    if is_forced {
        return output::say(&format!(
            "The old authority is in {aside}. Next: vsmctl pki rotate status says what each host needs, brokers first. \
             Destroy {aside}/ca.key once it says that nobody trusts it any more."
        ));
    }
    output::say(&format!(
        "The old authority is in {aside}. Next: {dir}/ca.pem to /etc/vsm/pki/ca.pem on each broker and on the hosts of \
         administrators and observers; then vsmctl reload on both brokers, and vsmctl pki renew --all, by which agents \
         drop the old one. Destroy {aside}/ca.key once vsmctl pki rotate status says that nobody trusts it any more."
    ))
}

fn not_there(not: &[String]) -> String {
    format!(
        "{} host(s) do not know the new authority, or have no certificate of it yet: {}. vsmctl pki rotate status says \
         what each needs; --force leaves them behind",
        not.len(),
        few(not, NAMED_MAX)
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

#[cfg(test)]
mod tests {
    use vsm_daemon::pki;

    use super::*;

    fn authority(name: &str) -> Certificate {
        Certificate::all(&pki::make_authority(name, 30).unwrap().0).remove(0)
    }

    #[test]
    fn a_host_is_there_when_it_trusts_the_new_one_and_has_a_certificate_of_it() {
        let (old, new) = (authority("old"), authority("new"));
        let key = |one: &Certificate| one.shown.key.to_string();
        let host = |trusts: &[&Certificate], by: &Certificate| pb::HostTrust {
            role: "agent".to_owned(),
            name: "lab7".to_owned(),
            trusts: trusts.iter().map(|one| key(one)).collect(),
            by: vec![key(by)],
            renews: true,
            why: String::new(),
            roles: vec!["agent".to_owned()],
            addresses: Vec::new(),
        };
        let signs = |by: &Certificate| ("tlha-primary".to_owned(), key(by));
        let row = |is_over, host| {
            Rotation { signs: signs(&new), ..Rotation::new(&old, &new, is_over) }.row(host)
        };
        let ready = |is_over, trusts: &[&Certificate], by| row(is_over, host(trusts, by)).ready;
        assert!(ready(false, &[&new, &old], &new) && !ready(true, &[&new, &old], &new));
        assert!(ready(true, &[&new], &new));
        assert!(!ready(false, &[&old], &new) && !ready(false, &[&new, &old], &old));
        let behind = row(false, host(&[&old], &old));
        assert_eq!(behind.words, ["old", "old"]);
        assert_eq!(behind.remark.as_deref(), Some("vsmctl pki renew agent/lab7"));
        let why = "closed".to_owned();
        let away = row(false, pb::HostTrust { why, ..host(&[&new], &new) });
        assert!(!away.ready && away.remark.as_deref() == Some("not seen: closed"));
        let by_hand = row(false, pb::HostTrust { renews: false, ..host(&[&old], &old) });
        let by_hand = by_hand.remark.unwrap();
        assert!(by_hand.starts_with(
            "vsmctl agent enrol lab7, or vsmctl pki issue lab7 --role agent --out lab7"
        ));
        // A certificate by the old issuer would be no nearer.
        let too_early = Rotation { signs: signs(&old), ..Rotation::new(&old, &new, false) };
        let too_early = too_early.row(host(&[&old], &old)).remark.unwrap();
        assert_eq!(too_early, "a new issuer for tlha-primary first (vsmctl pki issuer)");
        let broker = pb::HostTrust {
            role: "broker".to_owned(),
            roles: vec!["broker".to_owned(), "agent".to_owned()],
            addresses: vec!["tlha".to_owned()],
            ..host(&[&old], &old)
        };
        // Of an end that was forced too: with the new ca.pem alone it would trust itself no more.
        for is_over in [false, true] {
            let said = row(is_over, broker.clone()).remark.unwrap();
            let command = "vsmctl pki issue lab7 --role broker --role agent --address tlha --out lab7; vsmctl pki issuer";
            assert!(said.starts_with(command), "{said}");
        }
        let followed = pb::HostTrust { by: vec![key(&new)], ..broker };
        assert!(row(true, followed).remark.unwrap().starts_with("ca.pem of the authority"));
    }
}
