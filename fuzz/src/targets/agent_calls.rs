//! What `vsm-agent-net`, which speaks with other hosts, asks of `vsmagent`, which is root; and what that answers.
//!
//! The first byte says which of them.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use vsm_agent::message::{Answer, BYTES_MAX, Call, Order, PART_MAX, Told};

pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, line)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => call(line),
        1 => again::<Answer>(line),
        2 => again::<Told>(line),
        _ => again::<Order>(line),
    }
}

fn call(line: &[u8]) {
    let Ok(call) = Call::parse(line) else { return };
    match &call {
        Call::Start(start) => {
            let name = start.session.user.as_str();
            assert!(!name.is_empty() && !name.contains(['/', '\0', '\n']), "{name:?}");
            let params = &start.session.params;
            let texts = [&params.start_command, &params.language, &params.client_name];
            assert!(texts.iter().all(|text| text.len() <= 4096 && !text.contains('\0')));
            assert!(!params.profile.contains('/'));
        }
        Call::SetLimits { sessions, .. } => assert!(sessions.len() <= PART_MAX),
        Call::Revoke { identities, .. } => assert!(identities.len() <= PART_MAX),
        Call::Notify { ids, text, .. } => {
            assert!(ids.len() <= PART_MAX && !text.as_str().contains('\0'));
        }
        Call::Witness { bytes } => assert!(*bytes <= BYTES_MAX),
        Call::Verify { .. }
        | Call::Terminate { .. }
        | Call::Disconnect { .. }
        | Call::Extend { .. }
        | Call::Log { .. }
        | Call::AcceptKey { .. }
        | Call::Shadow { .. }
        | Call::Cancel { .. }
        | Call::Quarantine { .. }
        | Call::Install(_)
        | Call::Forget(_)
        | Call::Report
        | Call::Follow => {}
    }
    let sent = call.clone().line().expect("what was read can be written");
    assert_eq!(sent.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    assert_eq!(Call::parse(&sent).expect("what was written can be read"), call);
}

/// What can be read is written and read again, and is the same.
fn again<T: Serialize + DeserializeOwned + Debug + PartialEq>(line: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(line) else { return };
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    assert!(!written.contains(&b'\n'), "one line");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("it can be read"), value);
}
