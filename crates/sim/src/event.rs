//! What can happen in the simulated world, and what its inhabitants say to each other.

use std::sync::Arc;

use vsm_core::{
    Epoch, RequestId, Session, SessionId,
    lifecycle::login::Wish,
    replica::{PeerMsg, Token, WitnessMsg, WitnessReply},
};

/// A broker, 0 or 1.
pub(crate) type BrokerId = usize;
/// An agent, from 0.
pub(crate) type AgentId = usize;
/// One client of a user.
pub(crate) type ClientId = usize;

/// Something that happens at a moment. `life` is the process that it is meant for; after a restart it is lost.
#[derive(Debug, Clone)]
pub(crate) enum Ev {
    Tick {
        broker: BrokerId,
        life: u64,
    },
    Stored {
        broker: BrokerId,
        life: u64,
        token: Token,
    },
    Dial,
    Link {
        broker: BrokerId,
        life: u64,
        conn: u64,
        up: bool,
    },
    Peer {
        to: BrokerId,
        life: u64,
        conn: u64,
        msg: PeerMsg,
    },
    Witness {
        agent: AgentId,
        from: BrokerId,
        life: u64,
        msg: WitnessMsg,
    },
    WitnessReply {
        agent: AgentId,
        to: BrokerId,
        life: u64,
        reply: WitnessReply,
    },
    Call {
        agent: AgentId,
        from: BrokerId,
        life: u64,
        rpc: u64,
        call: Call,
    },
    /// An agent is about to fork.
    Act {
        agent: AgentId,
        agent_life: u64,
        from: BrokerId,
        life: u64,
        rpc: u64,
        epoch: Epoch,
        session: Arc<Session>,
    },
    Reply {
        agent: AgentId,
        to: BrokerId,
        life: u64,
        rpc: u64,
        reply: Reply,
    },
    CallTimeout {
        broker: BrokerId,
        life: u64,
        rpc: u64,
    },
    Again {
        broker: BrokerId,
        life: u64,
        task: u64,
    },
    AgentDial {
        agent: AgentId,
    },
    Report {
        agent: AgentId,
        to: BrokerId,
        life: u64,
        conn: u64,
        item: Item,
    },
    Login {
        broker: BrokerId,
        client: ClientId,
        request: RequestId,
        wish: Wish,
    },
    End {
        broker: BrokerId,
        session: SessionId,
    },
    Answer {
        client: ClientId,
        request: RequestId,
        result: Result<SessionId, ()>,
    },
    ClientTimeout {
        client: ClientId,
        attempt: u64,
    },
    ClientNext {
        client: ClientId,
    },
    Fault,
    /// A broker's cluster software has the other one's power cut.
    Shoot {
        by: BrokerId,
    },
    /// It tells its broker that this was done at a moment.
    PeerOff {
        broker: BrokerId,
        life: u64,
        at_ms: u64,
    },
    /// The next step of the plot.
    Plot,
    /// A broker dies, with all that it has not synced.
    Crash {
        broker: BrokerId,
    },
    /// The single server becomes the first of a pair.
    Convert,
    /// Both brokers' disks are lost.
    TotalLoss,
    /// An old copy of one is put back.
    OldCopy,
    /// What kept a broker from knowing who it is is mended, and it is started.
    Mend {
        broker: BrokerId,
    },
    Restart {
        broker: BrokerId,
    },
    AgentRestart {
        agent: AgentId,
    },
}

/// Broker to agent.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Start { epoch: Epoch, session: Arc<Session> },
    Cancel { epoch: Epoch, id: SessionId },
    Terminate { epoch: Epoch, id: SessionId },
    Verify { id: SessionId },
}

/// Agent to broker.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Running(SessionId, u32),
    Refused(SessionId),
    Cancelled(SessionId),
    Terminated(SessionId),
    Alive(SessionId),
    Gone(SessionId),
    Fenced(Epoch),
}

/// Part of an agent's report.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Inventory { promised: Option<Epoch>, sessions: Vec<Arc<Session>> },
    Started(Arc<Session>),
    Ended(SessionId),
}
