//! The life of a desktop, from a login to its end, with hosts that do as they are asked, refuse, lose answers and lose
//! power.

use std::time::Duration;

use tonic::{Code, Response, Status, transport::Channel};
use vsm_proto::{
    admin::v1::{AgentState, AgentView, ListAgentsRequest, admin_client::AdminClient},
    agent::v1::StartRefusal,
    broker::v1::{
        AbandonSessionRequest, AbandonSessionResponse, EndSessionRequest, EndSessionResponse,
        ListSessionsRequest, LoginRequest, LoginResponse, broker_client::BrokerClient,
    },
    session::v1::{Ended, Session, SessionState},
};

use super::{
    agent::{Host, Start},
    forward::{forwarded, local},
    lab::{LONG, Lab},
};

/// How long a start without an answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// A pair of brokers with two hosts, and the caller of this test as its user.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) port: u16,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let lab = Lab::with_b_active().await;
        let (port, hosts) = Host::several(&lab.authority, 2).await;
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).unwrap().unwrap().name;
        let site = Self { lab, hosts, user, port };
        site.configure("", "");
        site
    }

    /// Gives the broker a configuration with these words of the subcluster and of `vsmserver` in it.
    pub(crate) fn configure(&self, subcluster: &str, server: &str) {
        let names: Vec<_> = self.hosts.iter().map(|host| host.name.as_str()).collect();
        let (names, grace) = (names.join(", "), GRACE.as_secs());
        let yaml = format!(
            "subclusters: {{x: {{agents: [{names}]{subcluster}}}}}\n\
             vsmserver: {{start_unknown_grace: {grace}, login_timeout: 20{server}}}\n"
        );
        self.lab.b.has_agents(self.port, &yaml);
    }

    fn channel(&self) -> Channel {
        local(&self.lab.b)
    }

    pub(crate) async fn login(&self) -> Result<LoginResponse, Status> {
        self.ask(LoginRequest::default()).await
    }

    /// The same with what else is asked for; the request is a new one unless it has an id.
    pub(crate) async fn ask(&self, request: LoginRequest) -> Result<LoginResponse, Status> {
        self.asking(request).await
    }

    /// The same for whoever does something else meanwhile.
    pub(crate) fn asking(
        &self,
        request: LoginRequest,
    ) -> impl Future<Output = Result<LoginResponse, Status>> + use<> {
        let request_id = match request.request_id.as_str() {
            "" => uuid::Uuid::new_v4().to_string(),
            own => own.to_owned(),
        };
        let request = LoginRequest { request_id, ..request };
        let mut broker = BrokerClient::new(self.channel());
        async move {
            let answer = tokio::time::timeout(LONG, broker.login(request)).await;
            answer.expect("an answer").map(Response::into_inner)
        }
    }

    pub(crate) async fn end(&self, id: &str) -> Result<EndSessionResponse, Status> {
        let request = EndSessionRequest { id: id.to_owned() };
        let mut broker = BrokerClient::new(self.channel());
        let answer = tokio::time::timeout(LONG, broker.end_session(request)).await;
        answer.expect("an answer").map(Response::into_inner)
    }

    async fn abandon(&self, id: &str) -> Result<Response<AbandonSessionResponse>, Status> {
        let request = AbandonSessionRequest { id: id.to_owned() };
        BrokerClient::new(self.channel()).abandon_session(request).await
    }

    /// The user's desktops, and how the last ones ended.
    pub(crate) async fn list(&self) -> (Vec<Session>, Vec<Ended>) {
        let request = ListSessionsRequest { include_ended: true };
        let answer = BrokerClient::new(self.channel()).list_sessions(request).await.unwrap();
        let answer = answer.into_inner();
        let sessions = answer.sessions.into_iter().map(|view| view.session.unwrap());
        (sessions.collect(), answer.ended)
    }

    pub(crate) async fn agents(&self) -> Vec<AgentView> {
        // As the other broker, who asks for an administrator.
        let mut admin = AdminClient::new(self.lab.call(&self.lab.b, "broker", "a"));
        let list = admin.list_agents(forwarded(ListAgentsRequest::default(), None)).await;
        list.unwrap().into_inner().agents
    }

    pub(crate) async fn are_away(&self) -> bool {
        self.agents().await.iter().all(|agent| agent.state() != AgentState::Up)
    }

    pub(crate) fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).unwrap()
    }

    pub(crate) fn asked(&self, call: &str) -> usize {
        self.hosts.iter().map(|host| host.asked(call)).sum()
    }

    /// What runs anywhere.
    pub(crate) fn running(&self) -> Vec<String> {
        self.hosts.iter().flat_map(Host::sessions).collect()
    }
}

/// Waits until this holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_makes_a_desktop_and_the_next_one_comes_back_to_it() {
    let site = Site::new().await;
    let first = site.login().await.unwrap();
    let desktop = first.session.unwrap();
    assert!(first.created && first.host.starts_with("desk"), "{}", first.host);
    assert_eq!(site.host(&desktop.agent).sessions(), [desktop.id.as_str()]);
    let again = site.login().await.unwrap();
    assert!(!again.created);
    assert_eq!(again.session.unwrap().id, desktop.id);
    assert_eq!((site.asked("start"), site.running().len()), (1, 1));
    let (listed, _) = site.list().await;
    assert_eq!((listed.len(), listed[0].state), (1, SessionState::Running.into()));
}

/// Of a host's own faults and of a user's: the other host may be better, and where none is the reason is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_is_passed_over_and_the_reason_is_told() {
    for reason in [
        StartRefusal::UnknownUser,
        StartRefusal::Account,
        StartRefusal::Home,
        StartRefusal::XServer,
        StartRefusal::Full,
        StartRefusal::Storage,
        StartRefusal::Cancelled,
        StartRefusal::Internal,
        StartRefusal::Profile,
    ] {
        let site = Site::new().await;
        for host in &site.hosts {
            host.starts([Start::Refused(reason)]);
        }
        let refused = site.login().await.unwrap_err();
        assert!(refused.message().contains(reason.as_str_name()), "{reason:?}: {refused}");
        assert_ne!(refused.code(), Code::Internal, "{reason:?}: {refused}");
        assert_eq!((site.asked("start"), site.running().len()), (2, 0), "{reason:?}");
        assert!(site.list().await.0.is_empty(), "{reason:?}: nothing is left");

        let site = Site::new().await;
        // Whichever is asked first.
        site.hosts[0].starts([Start::Refused(reason)]);
        let got = site.login().await.unwrap().session.unwrap();
        assert_eq!(site.running(), [got.id], "{reason:?}");
        assert_eq!(got.agent, site.hosts[1].name, "{reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_answer_is_lost_is_asked_for_again() {
    let site = Site::new().await;
    for host in &site.hosts {
        host.starts([Start::RunsUnheard]);
    }
    let desktop = site.login().await.unwrap().session.unwrap();
    assert_eq!(site.running(), [desktop.id.as_str()], "one desktop");
    assert_eq!(site.host(&desktop.agent).asked("start"), 2, "the same host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_host_is_gone_is_given_up_and_ended_when_it_is_back() {
    let mut site = Site::new().await;
    site.hosts[0].starts([Start::RunsAndIsGone]);
    // Until the first host is asked first.
    let mut desktop = site.login().await.unwrap().session.unwrap();
    while site.hosts[0].asked("start") == 0 {
        site.end(&desktop.id).await.unwrap();
        desktop = site.login().await.unwrap().session.unwrap();
    }
    assert_eq!(desktop.agent, site.hosts[1].name);
    let [left] = site.hosts[0].sessions().try_into().unwrap();
    site.hosts[0].up().await;
    until("what was given up to end", async || site.hosts[0].sessions().is_empty()).await;
    assert_eq!(site.hosts[0].asked("cancel"), 1, "{left}");
    let (listed, _) = site.list().await;
    assert_eq!(listed.iter().map(|session| &session.id).collect::<Vec<_>>(), [&desktop.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_right_about_what_runs_there() {
    let mut site = Site::new().await;
    let desktop = site.login().await.unwrap().session.unwrap();
    let at = site.hosts.iter().position(|host| host.name == desktop.agent).unwrap();
    // Gone while nobody listened: the broker asks for the reason.
    site.hosts[at].down();
    site.hosts[at].forgets(&desktop.id);
    let stranger = Session {
        id: uuid::Uuid::now_v7().to_string(),
        request_id: uuid::Uuid::new_v4().to_string(),
        user: site.user.clone(),
        ..desktop.clone()
    };
    site.hosts[at].runs(stranger.clone());
    site.hosts[at].up().await;
    until("both to be known", async || {
        let (listed, ended) = site.list().await;
        let ids: Vec<_> = listed.iter().map(|session| session.id.as_str()).collect();
        ids == [stranger.id.as_str()] && ended.iter().any(|ended| ended.id == desktop.id)
    })
    .await;
    let (_, ended) = site.list().await;
    assert_eq!(ended[0].detail, "the host was restarted");
    // The one that was found is the user's desktop now.
    assert_eq!(site.login().await.unwrap().session.unwrap().id, stranger.id);
    site.hosts[at].logs_out(&stranger.id);
    until("the log-out to be known", async || site.list().await.0.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_carried_out_at_once_or_when_the_host_is_back() {
    let mut site = Site::new().await;
    let desktop = site.login().await.unwrap().session.unwrap();
    assert!(site.end(&desktop.id).await.unwrap().done);
    assert_eq!((site.running().len(), site.list().await.0.len()), (0, 0));
    let desktop = site.login().await.unwrap().session.unwrap();
    let at = site.hosts.iter().position(|host| host.name == desktop.agent).unwrap();
    site.hosts[at].down();
    let away =
        async || site.lab.b.broker.agents.link(&desktop.agent.parse().unwrap()).unwrap().is_up();
    until("the host to be away", async || !away().await).await;
    // It may come back, with all that is open in it: that is for its user to say.
    let refused = site.end(&desktop.id).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(site.list().await.0.len(), 1, "{refused}");
    site.abandon(&desktop.id).await.unwrap();
    assert_eq!(site.hosts[at].sessions(), [desktop.id.as_str()]);
    // The user has another one meanwhile, at the other host.
    let other = site.login().await.unwrap().session.unwrap();
    assert_ne!(other.agent, desktop.agent);
    site.hosts[at].up().await;
    until("the wish to be carried out", async || site.hosts[at].sessions().is_empty()).await;
    until("the end to be known", async || site.list().await.0.len() == 1).await;
}

/// What is done for a host that has just come is no business of a login that begins at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn logins_go_on_while_hosts_come_and_go() {
    let mut site = Site::new().await;
    let mut flapping = site.hosts.pop().unwrap();
    let done = tokio_util::sync::CancellationToken::new();
    let stop = done.clone();
    let flaps = tokio::spawn(async move {
        let mut flaps = 0;
        while !stop.is_cancelled() {
            flapping.down();
            flapping.up().await;
            let link_is_back = flapping.reports() + 1;
            let wait = async {
                while flapping.reports() < link_is_back {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(LONG, wait).await.expect("the broker is back");
            flaps += 1;
        }
        flaps
    });
    for _ in 0..60 {
        match site.login().await {
            Ok(answer) => drop(site.end(&answer.session.unwrap().id).await),
            Err(refused) => assert_ne!(refused.code(), Code::Internal, "{refused}"),
        }
    }
    done.cancel();
    assert!(flaps.await.unwrap() > 5);
}
