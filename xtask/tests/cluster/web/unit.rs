//! The sshd for browsers as a unit of Debian's systemd, with its files where the package puts them.

use xtask::cluster::web::PASSWORD;

use super::sshd::{ASKPASS, TO, let_in, ssh};
use crate::service::{BROKER, Service};

const FILES: [(&str, &str, &str); 4] = [
    ("644", "/etc/vsm/web/sshd_config", include_str!("../../../../deploy/web/sshd_config")),
    ("755", "/usr/lib/vsm/vsm-web-sshd", include_str!("../../../../deploy/web/vsm-web-sshd")),
    (
        "644",
        "/etc/systemd/system/vsm-web-sshd.service",
        include_str!("../../../../deploy/web/vsm-web-sshd.service"),
    ),
    (
        "644",
        "/etc/systemd/system/ssh.service.d/vsm-web.conf",
        include_str!("../../../../deploy/web/ssh.conf"),
    ),
];

#[test]
fn it_runs_beside_the_hosts_own_sshd_and_does_not_need_it() {
    let service = Service::debian("web-unit", 0);
    for (mode, path, text) in FILES {
        let put = format!(
            "mkdir -p $(dirname {path}); cat > {path} <<'END'\n{text}\nEND\nchmod {mode} {path}"
        );
        service.sh(BROKER, &put);
    }
    service.sh(BROKER, &format!("echo 'bob:{PASSWORD}' | chpasswd\n{ASKPASS}"));
    service.sh(BROKER, "systemctl daemon-reload; systemctl enable --quiet --now vsm-web-sshd");
    let words = format!("{TO} -s vsm");
    let works = || let_in(&ssh(&service, PASSWORD, "", &words).0);
    works();
    service.sh(BROKER, "systemctl stop ssh.service");
    works();
    service.sh(BROKER, "systemctl restart vsm-web-sshd && systemctl reload vsm-web-sshd");
    works();
    service.sh(BROKER, "systemctl start ssh.service");
    // With a bad line it is not reloaded, and goes on as it was.
    service.sh(BROKER, "echo 'NoSuchThing yes' >> /etc/vsm/web/sshd_config");
    service.sh(BROKER, "! systemctl reload vsm-web-sshd && systemctl is-active vsm-web-sshd");
    works();
    service.sh(BROKER, "! systemctl restart vsm-web-sshd; systemctl is-failed vsm-web-sshd");
}
