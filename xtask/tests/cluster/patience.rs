//! How long `vsm` waits for a broker's host that says nothing.

use std::thread;

use xtask::clock::wait_for;
use xtask::cluster::Fault;

use crate::pair_of_brokers::{Pair, WAIT};

/// sshd says nothing while PAM looks at the account, and ssh sends no keep-alives before the login is done.
#[test]
fn a_host_that_dies_while_it_checks_the_account_is_left_for_the_other() {
    let pair = Pair::up("patience");
    let alice = pair.login("alice");
    let (active, other) = pair.in_step();
    let slow = "sed -i '1i account required pam_exec.so /bin/sleep 600' /etc/pam.d/sshd";
    pair.sh(active, slow);
    thread::scope(|scope| {
        let login = scope.spawn(|| pair.login("alice"));
        // So that it is the kernel that asks whether the other end is there.
        wait_for("the connection to be probed", WAIT, || {
            let found = pair.sh("client", "ss -Htno state established dst tlha");
            // By itself the kernel would probe after two hours.
            let soon = |line: &str| line.contains("timer:(keepalive,") && !line.contains("min,");
            if found.lines().any(soon) { Ok(()) } else { Err(found) }
        })
        .unwrap();
        wait_for("PAM to look at the account", WAIT, || {
            let words = ["pgrep", "-f", "^/bin/sleep 600"];
            pair.output(active, "root", &words).map_err(|error| format!("{error:#}"))
        })
        .unwrap();
        assert!(!login.is_finished());
        pair.inject(Fault::Silent { host: active.to_owned() });
        pair.serves(other);
        assert_eq!(login.join().unwrap().session, alice.session);
    });
    pair.heal_all();
}
