//! What every ssh that these programs run is told, whatever the user's ssh_config says: that is written for a person at
//! a terminal, and here a machine speaks through a pipe.

use std::ffi::OsString;

/// For all of them; they stand first, and ssh takes the first. Every ssh that is in use knows them.
const ALL: [&str; 12] = [
    // No terminal, and no command but ours.
    "RequestTTY=no",
    "RemoteCommand=none",
    "EscapeChar=none",
    "PermitLocalCommand=no",
    // No other way through the connection: each can fail, and takes the pipe along where it has to work.
    "ClearAllForwardings=yes",
    "ExitOnForwardFailure=no",
    "Tunnel=no",
    "ForwardX11=no",
    // A connection that is shared hangs when it is dead, knows none of our options, has a bound on its sessions, and
    // stays behind with our standard error.
    "ControlMaster=no",
    "ControlPath=none",
    "ControlPersist=no",
    // A picture among the words that are listened to.
    "VisualHostKey=no",
];

/// For pipes to a daemon, which has no use for the user's keys.
const PIPE: [&str; 1] = ["ForwardAgent=no"];

/// Younger options (OpenSSH 8.7), behind the leave not to know them. They stand behind what the user gives, so that a
/// wrong word there is an error still; in files it is not, as ssh takes but one list of what it need not know.
const YOUNG: [&str; 3] = ["IgnoreUnknown=*", "StdinNull=no", "ForkAfterAuthentication=no"];

fn options(all: &[&str]) -> Vec<OsString> {
    all.iter().flat_map(|option| ["-o".into(), (*option).into()]).collect()
}

/// Arguments of ssh for a pipe to a daemon, with what the user gives among them.
#[must_use]
pub fn pipe(given: Vec<OsString>) -> Vec<OsString> {
    // `-s` is also where SessionType is set, which is refused once that says another thing.
    [vec!["-s".into()], options(&ALL), options(&PIPE), given, options(&YOUNG)].concat()
}

/// Arguments of ssh for a command on a host, run for many hosts.
#[must_use]
pub fn command() -> Vec<OsString> {
    [options(&["BatchMode=yes"]), options(&ALL), options(&YOUNG)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_stand_before_the_users_and_what_may_be_unknown_behind_them() {
        let words = pipe(vec!["-o".into(), "RemoteCommand=tmux".into()]);
        let at = |word: &str| words.iter().position(|found| found == word).unwrap();
        assert!(at("RemoteCommand=none") < at("RemoteCommand=tmux"));
        assert!(at("RemoteCommand=tmux") < at("IgnoreUnknown=*"));
        assert!(at("IgnoreUnknown=*") < at("StdinNull=no"));
    }
}
