//! The command line of `vsm`.

use clap::{Args, Parser, Subcommand};
use vsm_daemon::VERSION;

use crate::{
    connect::ConnectArgs,
    door::RelayArgs,
    exit,
    forward::ForwardArgs,
    output::Format,
    retry::RetryOptions,
    shadow::ShadowArgs,
    ssh::{Destination, SshOptions},
    web::WebCommand,
};

/// Starts your desktop on one of the site's session hosts, and connects you to it.
///
/// It uses ssh for everything: what works with `ssh HOST` works here.
#[derive(Debug, Parser)]
#[command(name = "vsm", version = VERSION, after_help = exit::HELP)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect to your desktop; starts one if you have none
    #[command(
        after_help = "Examples:\n  vsm connect alice@desktops.example.org\n  vsm connect --policy ask desktops\n  vsm connect --new --start-command xterm --param room=12 desktops\n  vsm connect --screenshot now.png desktops\n  vncviewer \"$(vsm connect --no-viewer desktops)\""
    )]
    Connect(Box<ConnectArgs>),
    /// List your desktops
    List(ListArgs),
    /// Disconnect the viewer from your desktop; the desktop keeps running
    Disconnect(OneArgs),
    /// Extend your desktop's time limit
    Extend(OneArgs),
    /// End your desktop and everything that runs in it; unsaved work is lost
    End(OneArgs),
    /// Give up a desktop whose host does not answer, so that you can get a new one
    #[command(
        after_help = "The desktop may still be running; its host ends it on return, and unsaved work is lost.\nA desktop whose host answers cannot be abandoned: connect to it, or end it."
    )]
    Abandon(OneArgs),
    /// View another user's desktop, or control it if they allow that
    #[command(
        after_help = "The administrator decides who may shadow (/shadowing/allowed_shadowers), and whether the desktop's user is told\nor asked. Control always needs the user's consent. The broker records who shadowed whom.\n\nExample:\n  vsm shadow desktops alice --control"
    )]
    Shadow(Box<ShadowArgs>),
    /// List the browsers that you are logged in with, and log them out
    #[command(subcommand)]
    Web(WebCommand),
    /// Keep a socket for a viewer; started by `connect`
    #[command(hide = true)]
    Forward(Box<ForwardArgs>),
    /// The way to a session host through the broker's; run by ssh
    #[command(hide = true)]
    Relay(Box<RelayArgs>),
}

/// `vsm list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Broker
    #[arg(value_name = "[USER@]HOST")]
    pub to: Destination,
    /// List desktops that ended recently instead, and why
    #[arg(long)]
    pub ended: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
    /// How long to go on asking.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// How to call ssh.
    #[command(flatten)]
    pub ssh: SshOptions,
}

/// One desktop.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Broker
    #[arg(value_name = "[USER@]HOST")]
    pub to: Destination,
    /// Which desktop, if you have several: its id, or the end of it as `vsm list` shows it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub session: String,
    /// How long to go on asking.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// How to call ssh.
    #[command(flatten)]
    pub ssh: SshOptions,
}
