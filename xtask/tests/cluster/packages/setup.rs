//! `vsm-setup` on a host where things are in the way, and on one where they are not.

use super::{answer, hosts, install, sh, try_sh};

const SERVER: &str = "role = server\npublic_name = tlha-primary\nbrokers = tlha-primary\nagents = agent1\nfirewall = open\n";
const RULES: &str = "nft list ruleset";

#[test]
fn a_host_is_set_up_whole_or_not_at_all() {
    let cluster = hosts("pkg-setup");
    let host = "tlha-primary";
    install(&cluster, host, "now", &["vsm-common", "vsm-server"]);
    sh(
        &cluster,
        host,
        "nft 'add table inet filter; add chain inet filter input { type filter hook input priority filter; policy drop; }'
        nft 'add rule inet filter input iif lo accept; add rule inet filter input tcp dport 22 accept'
        systemd-run --quiet --unit=taker python3 -m http.server 9000
        until ss -ltn | grep -q :9000; do sleep 0.1; done",
    );
    let everything = format!("md5sum /etc/vsm/conf.d/*; {RULES}");
    let before = sh(&cluster, host, &everything);
    let setup = format!("printf '{SERVER}' > /root/answers; vsm-setup --answers /root/answers");

    // Two things in the way: both are named, with what to do, and nothing has changed.
    sh(&cluster, host, "mv /etc/ssh/sshd_config.d/vsm.conf /root/");
    let (code, said) = try_sh(&cluster, host, &setup);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("2 thing(s) in the way, so nothing was changed"), "{said}");
    assert!(
        said.contains("port 9000, which vsmserver needs, is taken by python3 (process "),
        "{said}"
    );
    assert!(said.contains("sshd does not know the subsystem vsm"), "{said}");
    assert_eq!(sh(&cluster, host, &everything), before);
    sh(&cluster, host, "mv /root/vsm.conf /etc/ssh/sshd_config.d/ && systemctl stop taker");

    // A dry run tells and does nothing.
    let said = sh(&cluster, host, &format!("{setup} --dry-run"));
    assert!(said.contains("set   /vsmserver/subclusters/Default/agents = agent1"), "{said}");
    assert!(
        said.contains(
            "nft 'insert rule inet filter input ip saddr 10.0.0.11 tcp dport 9000 accept"
        ),
        "{said}"
    );
    assert_eq!(sh(&cluster, host, &everything), before);

    // A configuration that cannot be written takes the firewall back.
    sh(&cluster, host, "mount -t tmpfs -o ro,mode=755 tmpfs /etc/vsm/conf.d");
    let (code, said) = try_sh(&cluster, host, &setup);
    assert_eq!(code, 73, "{said}");
    sh(&cluster, host, "umount /etc/vsm/conf.d");
    assert_eq!(sh(&cluster, host, &everything), before);

    // Done, and done again: the second time changes nothing.
    let said = answer(&cluster, host, SERVER);
    assert!(said.contains("vsmctl pki issue tlha-primary --role broker"), "{said}");
    assert_eq!(sh(&cluster, host, "vsm-config /vsmserver/subclusters/Default/agents"), "agent1");
    let after = sh(&cluster, host, &everything);
    assert_eq!(after.matches("vsm-setup").count(), 1, "{after}");
    let said = answer(&cluster, host, SERVER);
    assert!(said.contains("same  /vsmserver/subclusters/Default/agents = agent1"), "{said}");
    assert_eq!(sh(&cluster, host, &everything), after);

    // Asked instead of told: an empty line takes what is there.
    let said = sh(
        &cluster,
        host,
        "printf 'srv\\nserver\\n\\n\\n\\n\\n' | vsm-setup --write-answers /root/written",
    );
    assert!(said.contains("\"srv\" is not allowed; allowed: server, agent, both"), "{said}");
    let written = sh(&cluster, host, "cat /root/written");
    assert!(
        written.contains("agents = agent1") && written.contains("firewall = leave"),
        "{written}"
    );
    assert_eq!(sh(&cluster, host, &everything), after);
}
