//! The command line of `vsm-setup`.

use std::path::PathBuf;

use clap::Parser;
use vsm_daemon::VERSION;

const AFTER: &str = "\
Answers are lines of the form `question = answer`; # begins a comment:
  role = agent                              server, agent or both
  public_name = agent1.example.org          the name under which users reach this host
  master = tlha                             agents: the broker's name; with a pair, that of the resource address
  brokers = tlha-primary tlha-secondary     the broker, or both of a pair
  agents = agent1 agent2                    servers: the session hosts; empty leaves what is configured
  firewall = show                           leave, show the rules, or open the port here and now

Exit codes: 0 done; 64 bad usage or a bad answer; 66 the answers cannot be read; 69 something is missing or taken; \
73 cannot write; 77 not root; 78 bad configuration. Nothing was changed unless it is 0.";

/// Sets this host up as a broker or as a session host: by a few questions, or from a file of answers.
///
/// It looks at what the host needs, and then sets everything or nothing. To run it again is safe; where the answers are
/// the same it changes nothing.
#[derive(Debug, Parser)]
#[command(name = "vsm-setup", version = VERSION, after_help = AFTER)]
pub struct Arguments {
    /// Take the answers from FILE and ask nothing
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
    /// Write the answers to FILE, to be used for the next host
    #[arg(long, value_name = "FILE")]
    pub write_answers: Option<PathBuf>,
    /// Say what would be done, and what is in the way, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d")]
    pub config: PathBuf,
}
