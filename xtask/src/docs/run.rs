//! Runs the guide: its blocks, one after the other, on fresh hosts, as a reader would type them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::expect;
use super::page::{self, Act, Block, Command, Deed, Hosts, Options, Page, What};
use super::report::{Passed, Report};
use crate::clock::wait_for;
use crate::cluster::{Cluster, ClusterSpec, Fault};
use crate::command::capture;
use crate::progress::Progress;

/// The longest that one command may take, in seconds: an installation on a busy machine.
const COMMAND_MAX_S: &str = "180";
/// How long a block that waits may wait for what it expects.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What is run, and on what.
#[derive(Debug)]
pub struct Guide {
    /// The folder with `SUMMARY.md` and the pages.
    pub book: PathBuf,
    /// The name of the cluster; one after the other has it.
    pub name: String,
    /// The xtask program.
    pub helper: PathBuf,
    /// The folder with the packages, which the hosts see as `/mnt`.
    pub medium: Option<PathBuf>,
    /// Only the pages that share their hosts with this one.
    pub only: Option<String>,
    /// Go on with the block at this line of the page `only`, on hosts that a failure has left standing.
    pub from: Option<usize>,
    /// Leave the hosts standing after a failure.
    pub keep: bool,
    /// Tell each block on stderr.
    pub progress: bool,
    /// Tell also what each command printed, for those who write pages.
    pub show: bool,
}

impl Guide {
    /// Runs every page; a page that fails ends the run on its hosts, and the others go on.
    ///
    /// # Errors
    /// When a page cannot be read or hosts do not come up. A block that fails is in the report.
    pub fn run(&self) -> Result<Report> {
        let pages = page::all(&self.book)?;
        let mut report = Report::new(&pages);
        for chain in chains(&pages)? {
            let has = |name: &String| chain.iter().any(|page| page.name == *name);
            if self.only.as_ref().is_none_or(has) {
                self.chain(&chain, &mut report)?;
            }
        }
        Ok(report)
    }

    /// Runs the pages that share hosts.
    fn chain(&self, chain: &[&Page], report: &mut Report) -> Result<()> {
        let cluster = self.hosts()?;
        let progress = Progress::new(self.progress);
        let mut reader = Reader::new(&cluster);
        let mut skipping = self.from.is_some();
        for page in chain {
            for block in &page.blocks {
                let named = self.only.as_ref() == Some(&page.name);
                skipping &= !(named && self.from.is_none_or(|line| line <= block.line));
                if skipping {
                    continue;
                }
                progress.step(format!("{}:{} {}", page.name, block.line, block.what));
                match reader.follow(block) {
                    Ok(printed) => {
                        if self.show {
                            eprint!("{printed}");
                        }
                        report.passed(Passed::new(page, block));
                    }
                    Err(error) => {
                        report.failed(format!("{}:{error:#}", page.name));
                        if self.keep {
                            cluster.keep();
                        }
                        return Ok(());
                    }
                }
            }
        }
        cluster.down()
    }
}

impl Guide {
    /// Fresh hosts, or those that stand.
    fn hosts(&self) -> Result<Cluster> {
        if self.from.is_some() {
            return Cluster::attach(&self.name, &self.helper);
        }
        let mut spec = ClusterSpec::fresh(&self.name, &self.helper);
        (spec.fresh, spec.medium) = (true, self.medium.clone());
        Cluster::up(&spec)
    }
}

/// The pages by the hosts that they share.
fn chains(pages: &[Page]) -> Result<Vec<Vec<&Page>>> {
    let mut chains: Vec<Vec<&Page>> = Vec::new();
    for page in pages {
        match &page.hosts {
            Hosts::None => {}
            Hosts::Fresh => chains.push(vec![page]),
            Hosts::After(other) => {
                let last =
                    |chain: &&mut Vec<&Page>| chain.last().is_some_and(|last| last.name == *other);
                let chain = chains.iter_mut().find(last);
                let why = || {
                    format!(
                        "{}: {other} is run by no page above, or another page is after it",
                        page.name
                    )
                };
                chain.with_context(why)?.push(page);
            }
        }
    }
    Ok(chains)
}

/// Somebody who does what the pages say.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    cluster: &'a Cluster,
    /// The session of each label.
    sessions: BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, sessions: BTreeMap::new() }
    }

    /// Does what a block says; returns what was printed.
    pub(crate) fn follow(&mut self, block: &Block) -> Result<String> {
        match &block.what {
            What::Deeds(deeds) => {
                deeds
                    .iter()
                    .try_for_each(|deed| self.perform(deed))
                    .with_context(|| format!("{}", block.line))?;
                Ok(String::new())
            }
            What::Commands { hosts, options, commands } => {
                let printed = self.everywhere(hosts, options, commands)?;
                if let Some(label) = &options.session {
                    self.same_session(label, &printed)
                        .with_context(|| format!("{}: session {label}", block.line))?;
                }
                Ok(printed)
            }
        }
    }

    fn perform(&self, deed: &Deed) -> Result<()> {
        let (cluster, host) = (self.cluster, deed.host.clone());
        match deed.act {
            Act::PullCable => cluster.fault(&Fault::Cable { host }),
            Act::PlugIn => cluster.heal_fault(&Fault::Cable { host }),
            Act::CutPower => cluster.power_off(&host),
            Act::SwitchOn => cluster.power_on(&host),
            Act::NewDisks => cluster.fault(&Fault::DiskLost { host }),
        }
    }

    /// Types the commands on each host, on all of them at the same time; returns what they printed.
    fn everywhere(&self, hosts: &[String], how: &Options, commands: &[Command]) -> Result<String> {
        let on = |host: &str| -> Result<String> {
            let printed: Result<Vec<_>> =
                commands.iter().map(|command| self.type_(host, how, command)).collect();
            Ok(printed?.concat())
        };
        let all: Vec<Result<String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = hosts.iter().map(|host| scope.spawn(|| on(host))).collect();
            let ended = |_| anyhow!("the thread that ran the block has ended");
            threads.into_iter().map(|thread| thread.join().map_err(ended).flatten()).collect()
        });
        Ok(all.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Types one command, again and again where the block waits.
    fn type_(&self, host: &str, how: &Options, command: &Command) -> Result<String> {
        let user = match (command.as_root, &how.user) {
            (true, _) => "root",
            (false, Some(user)) => user,
            (false, None) => self.cluster.default_user(host)?,
        };
        let once = || self.once(host, user, command);
        let printed = if how.wait {
            let what = format!("`{}` on {host}", command.text);
            wait_for(&what, WAIT_MAX, || once().map_err(|error| format!("{error:#}")))
        } else {
            once()
        };
        printed.with_context(|| format!("{}: {user} on {host}: {}", command.line, command.text))
    }

    fn once(&self, host: &str, user: &str, command: &Command) -> Result<String> {
        // As on a terminal, where both outputs go to the same place.
        let script = format!("exec 2>&1\n{}", command.text);
        let words = [
            "timeout",
            "--kill-after=5",
            COMMAND_MAX_S,
            "bash",
            "-e",
            "-o",
            "pipefail",
            "-c",
            &script,
        ];
        let mut typed = self.cluster.command(host, user, &words)?;
        let output = capture(typed.stdin(Stdio::null()))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{}; it printed:\n{printed}", output.status);
        }
        let expected = &command.expected;
        if !expected.is_empty() && !expect::fits(expected, &printed) {
            bail!("expected:\n{}\nit printed:\n{printed}", expected.join("\n"));
        }
        Ok(printed)
    }

    /// Holds the one session that was printed against the one of before.
    fn same_session(&mut self, label: &str, printed: &str) -> Result<()> {
        let mut ids = expect::sessions(printed);
        ids.sort();
        ids.dedup();
        let [id] = &ids[..] else { bail!("one session is to be printed, not {ids:?}") };
        let known = self.sessions.entry(label.to_owned()).or_insert_with(|| id.clone());
        if known == id { Ok(()) } else { bail!("it was {known} and is {id}") }
    }
}
