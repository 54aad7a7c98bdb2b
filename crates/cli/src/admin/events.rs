//! The trail: the last events, new ones as they happen, and whether they are as they were recorded.

mod verify;

use clap::{Args, Subcommand};
use tokio_stream::StreamExt;
use vsm_core::Event;
use vsm_daemon::event_record::EventRecord;
use vsm_proto::admin::v1 as pb;

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::with_deadline,
    exit::{Failure, SOFTWARE},
    output,
    retry::{self, RetryOptions},
    trail,
};

/// Which events.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EventsArgs {
    #[command(subcommand)]
    verify: Option<EventsCommand>,
    /// Keep printing new events, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only the last N events; 0 = all that are kept
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    last: u32,
    /// Only events after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    after: u64,
    /// Only events that concern this user, or that they caused
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// Only events that concern this agent
    #[arg(long, value_name = "AGENT", default_value = "", hide_default_value = true)]
    agent: String,
    /// Only events of this session, by its whole id
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
    #[command(flatten)]
    retry: RetryOptions,
}

/// What else can be done with them.
#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Check that no event was changed, removed or inserted
    ///
    /// Each event bears a hash over itself and the event before it. The files are read in the order given, then what
    /// the broker has. Exit code 1: something is not as it was recorded, or is missing.
    Verify(verify::VerifyArgs),
}

/// `vsmctl events`: who did what when.
///
/// # Errors
/// If the broker cannot be asked; also if the chain of events is broken, where that is looked for.
pub async fn events(options: &AdminOptions, arguments: &EventsArgs) -> Result<(), Failure> {
    if let Some(EventsCommand::Verify(arguments)) = &arguments.verify {
        return verify::events_verify(options, arguments).await;
    }
    let mut request = pb::ListEventsRequest {
        after: arguments.after,
        last: arguments.last,
        follow: arguments.follow,
        session: arguments.session.clone(),
        user: arguments.user.clone(),
        agent: arguments.agent.clone(),
    };
    let mut records = Vec::new();
    loop {
        let mut pages = retry::riding(&arguments.retry, async || {
            let mut client = options.dial().await?;
            let request = request.clone();
            let asked = if request.follow {
                client.list_events(request).await
            } else {
                client.list_events(with_deadline(request, DEADLINE)).await
            };
            let answer = asked?;
            output::say_if_stale(&answer);
            Ok(answer.into_inner())
        })
        .await?;
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(_) if arguments.follow => break,
                Err(status) => return Err(status.into()),
            };
            for event in page.events {
                let event = Event::try_from(event)
                    .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
                (request.after, request.last) = (event.number, 0);
                let record = EventRecord::from(&event);
                if !arguments.follow {
                    records.push(record);
                } else if !output::write_on(&trail::line(&record, options.output)?)? {
                    return Ok(());
                }
            }
        }
        if !arguments.follow {
            return output::list(options.output, &records);
        }
    }
}
