//! What is tested on hosts in miniature, on hosts as Debian makes them: the same tests, several on each service, as
//! these hosts take long to come up.

use crate::pair_of_brokers::{self, Pair};
use crate::service::{BROKER, Service};
use crate::storm::{self, end_all};
use crate::{maintenance, one_login, several, shadow, ssh_config, takeover};

#[test]
fn desktops_are_passed_over_taken_over_given_up_and_shadowed() {
    let service = Service::debian("debian-hosts", ssh_config::USERS);
    for test in [maintenance::passed_over, takeover::taken_over, takeover::given_up] {
        test(&service);
        end_all(&service);
    }
    shadow::allow(&service, "ask");
    shadow::is_asked(&service);
    // By both hops; what else there is takes one of them.
    ssh_config::reaches_no_pipe(&service, &ssh_config::COMMANDS[2..]);
}

#[test]
fn many_come_back_at_once_to_slow_hosts_and_nobody_is_asked_twice() {
    let service = Service::debian("debian-storm", storm::BACK_TO_SLOW);
    for (cap, test) in [(3, several::is_asked as fn(&Service)), (2, several::at_once)] {
        several::allow(&service, cap);
        test(&service);
        end_all(&service);
    }
    several::allow(&service, 1);
    shadow::allow(&service, "silent");
    shadow::is_in_the_trail(&service);
    // With the distribution's `MaxStartups`.
    for host in [BROKER, "agent1", "agent2"] {
        let set = service.sh(host, "sshd -T | grep -i ^maxstartups");
        assert_eq!(set, "maxstartups 10:30:100", "{host}");
    }
    storm::come_back_to_slow(&service);
    one_login::asked_once(&service);
}

#[test]
fn desktops_stay_through_the_loss_of_a_broker() {
    let pair = Pair::debian("debian-pair");
    pair_of_brokers::comes_back(&pair);
}
