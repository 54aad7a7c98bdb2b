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
};

/// Your desktop on the site's session hosts: get it, leave it, come back to it.
///
/// Everything goes through ssh: what works with `ssh HOST` works here.
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
    /// Get your desktop: the one you have, or a new one
    #[command(
        after_help = "Examples:\n  vsm connect alice@desktops.example.org\n  vsm connect --policy ask desktops\n  vsm connect --new --start-command xterm --param room=12 desktops\n  vsm connect --screenshot now.png desktops\n  vncviewer \"$(vsm connect --no-viewer desktops)\""
    )]
    Connect(Box<ConnectArgs>),
    /// List your desktops
    List(ListArgs),
    /// Disconnect the viewer from your desktop, which lives on
    Disconnect(OneArgs),
    /// Put off the end that a limit of the administrator's would make of your desktop
    Extend(OneArgs),
    /// End your desktop and all that runs in it; what is not saved is lost
    End(OneArgs),
    /// Give up a desktop whose host does not answer, so that you can get a new one
    #[command(
        after_help = "The desktop may still run, and its host ends it when it is back: what is not saved is lost.\nA desktop whose host answers is left alone: connect to it, or end it."
    )]
    Abandon(OneArgs),
    /// Look at somebody else's desktop, or work at it where they allow that
    #[command(
        after_help = "Whether you may at all the administrator says (/shadowing/allowed_shadowers); whether the desktop's user is told\nor asked, too. Control is always the user's to give. It is noted who shadowed whom.\n\nExample:\n  vsm shadow desktops alice --control"
    )]
    Shadow(Box<ShadowArgs>),
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
    /// Those that have ended lately instead, and why
    #[arg(long)]
    pub ended: bool,
    /// How to print it
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
    /// Which, where you have several: its id, or the end of it as `vsm list` shows it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub session: String,
    /// How long to go on asking.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// How to call ssh.
    #[command(flatten)]
    pub ssh: SshOptions,
}
