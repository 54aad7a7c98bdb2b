//! `vsm-bench`: the measuring clients and the peers that the product is compared with.
//!
//! `cargo xtask bench` runs it inside the hosts of a miniature cluster; each command prints one line of JSON. It is a
//! crate of its own because it needs gRPC, TLS and the store, which xtask must do without to compile in seconds, and
//! because what measures the product does not belong into what is installed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool: results on stdout, errors on stderr"
)]

mod agents;
mod attack;
mod bare;
mod disk;
mod echo;
mod first;
mod floor;
mod frames;
mod hostile;
mod load;
mod logins;
mod node;
mod place;
mod ready;
mod rfb;
mod rival;
mod store;
mod web;
mod x2go;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

/// Bytes of a record that is made durable: about one session's.
const RECORD_LEN: usize = 400;

/// One measurement or one peer; started by `cargo xtask bench`.
#[derive(Debug, Parser)]
enum Arguments {
    /// Log users in at the same moment and time each: root on the broker's host
    Logins(logins::Options),
    /// End the sessions of users: root on the broker's host
    End(logins::EndOptions),
    /// Print how the X server of the one running session was started: root on the agent's host
    Template,
    /// Start bare X servers at the same moment and time each: root on the agent's host
    Bare(bare::Options),
    /// Count look-ups, or calls of the echo, for a while
    Load(load::Options),
    /// Serve the echo's first hop: a unix socket, passing each call on
    EchoFront(echo::FrontOptions),
    /// Serve the echo's second hop: mutual TLS
    EchoBack(echo::BackOptions),
    /// Fill a session table
    Fill(store::FillOptions),
    /// Print how many sessions the broker serves
    Serving,
    /// Time small durable writes
    Disk(disk::Options),
    /// Be a broker's table, and obey lines on standard input
    Node(node::Options),
    /// Be many agents
    Agents(agents::Options),
    /// Run a program, and time when it prints and when it is done
    First(first::Options),
    /// Start a daemon, time until it is ready, and end it
    Ready(ready::Options),
    /// View the one desktop on this host, and tell what that takes: its user
    Frames(frames::Options),
    /// Log users in by browser at the same moment, and view their desktops until standard input ends
    WebLogins(web::LoginOptions),
    /// View a desktop by browser, or by a socket: pictures, and what keys paint
    View(web::ViewOptions),
    /// Choose agents in memory, and time each choice
    Place(place::Options),
    /// Write to another store for a while
    Rival(rival::Options),
    /// Ask x2gobroker for a while
    X2go(x2go::Options),
    /// Time the least that a replicated durable write takes, or be its other side
    Floor(floor::Options),
    /// Be a session host in the wrong hands: root there
    HostileAgent(hostile::AgentOptions),
    /// Use a broker's certificate at a session host: root on the broker's host
    HostileBroker(hostile::BrokerOptions),
    /// Make a certificate that no command makes
    Forge(attack::ForgeOptions),
    /// Print a request for a certificate
    Request,
    /// Print all methods of all services
    Methods,
    /// Make calls by any identity: a list on standard input
    Calls,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vsm-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments {
        Arguments::Logins(options) => print(&runtime()?.block_on(logins::run(&options))?),
        Arguments::End(options) => print(&runtime()?.block_on(logins::end(&options))?),
        Arguments::Template => print(&bare::template()?),
        Arguments::Bare(options) => print(&bare::run(&options)?),
        Arguments::Load(options) => print(&runtime()?.block_on(load::run(options))?),
        Arguments::EchoFront(options) => runtime()?.block_on(echo::front(options)),
        Arguments::EchoBack(options) => runtime()?.block_on(echo::back(options)),
        Arguments::Fill(options) => print(&runtime()?.block_on(store::fill(options))?),
        Arguments::Serving => print(&runtime()?.block_on(store::serving())?),
        Arguments::Disk(options) => print(&disk::run(&options)?),
        Arguments::Node(options) => node::run(options, &runtime()?),
        Arguments::Agents(options) => runtime()?.block_on(agents::run(options)),
        Arguments::First(options) => print(&first::run(&options)?),
        Arguments::Ready(options) => print(&ready::run(&options)?),
        Arguments::Frames(options) => print(&runtime()?.block_on(frames::run(&options))?),
        Arguments::WebLogins(options) => runtime()?.block_on(web::logins(options)),
        Arguments::View(options) => print(&runtime()?.block_on(web::view(options))?),
        Arguments::Place(options) => print(&place::run(&options)?),
        Arguments::Rival(options) => print(&runtime()?.block_on(rival::run(options))?),
        Arguments::X2go(options) => print(&runtime()?.block_on(x2go::run(options))?),
        Arguments::Floor(options) => floor::either(&options),
        Arguments::HostileAgent(options) => runtime()?.block_on(hostile::agent(options)),
        Arguments::HostileBroker(options) => runtime()?.block_on(hostile::broker(options)),
        Arguments::Forge(options) => attack::forge(&options),
        Arguments::Request => attack::request(),
        Arguments::Methods => attack::methods(),
        Arguments::Calls => runtime()?.block_on(attack::calls()),
    }
}

/// As many threads as the product's daemons have.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn print(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}

/// Milliseconds between two moments.
fn millis(from: std::time::Instant, to: std::time::Instant) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
