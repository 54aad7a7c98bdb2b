//! Logins under way: each question of sshd's is a form, and between two forms the connection waits here.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use uuid::Uuid;
use vsm_daemon::{
    clock,
    share::{self, Share, Shares, Who},
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    broker::{self, Accepted, Broker},
    cookie::Cookie,
    error::Refused,
    limit::Limits,
    settings::Settings,
    ssh::{self, Prompt, SEED, Ssh, Step},
};

/// How long a form may be left. sshd's own bound (`LoginGraceTime`) is for all of a login's forms.
const FORM_MAX: Duration = Duration::from_secs(300);
/// Logins under way from one address.
const OF_ADDRESS_MAX: usize = 64;
/// The same of all: each is a connection that sshd holds.
const OF_ALL_MAX: usize = 512;
/// So often those that were left are looked for, at most.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(crate) struct Logins {
    limits: Limits,
    shares: Arc<Shares>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    logins: HashMap<Uuid, Login>,
    tidied: Option<Instant>,
}

/// One.
struct Login {
    user: String,
    ssh: Ssh,
    /// How many answers are wanted; none = a password, and not as an answer.
    prompts: Option<usize>,
    since: Instant,
    share: Share,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What is to be shown next.
pub(crate) enum Next {
    /// A form.
    Form {
        /// Which login it belongs to.
        id: Uuid,
        /// What stands above the questions.
        heading: String,
        /// The questions; none = a password.
        prompts: Option<Vec<Prompt>>,
    },
    /// The desktop: the browser keeps this, for so long.
    In(Cookie, Duration),
}

/// Who logs in, and by what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Browser<'a> {
    /// Where it is.
    pub(crate) address: IpAddr,
    /// What it calls itself.
    pub(crate) agent: &'a str,
}

impl fmt::Display for Browser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.agent, self.address.to_canonical())
    }
}

impl Logins {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::new(),
            shares: Shares::new("logins in browsers", OF_ADDRESS_MAX, OF_ALL_MAX),
            waiting: Mutex::default(),
        }
    }

    /// Whether one may come from this address whose name is not known yet.
    pub(crate) fn may_come(&self, address: IpAddr) -> bool {
        self.limits.may_come(address)
    }

    /// Begins one.
    pub(crate) async fn begin(
        &self,
        settings: &Settings,
        browser: Browser<'_>,
        user: String,
    ) -> Result<Next, Refused> {
        if !self.limits.may_try(browser.address, &user) {
            return Err(Refused::TooOften);
        }
        tracing::info!(user, address = %browser.address, "a login begins");
        self.waiting.lock().tidy();
        let who = Who::Address(share::network(browser.address));
        let share = self.shares.take(who).ok_or(Refused::Busy)?;
        let mut ssh = broker::dial(settings, settings.ssh_port).await?;
        let step = ssh.begin(&user).await?;
        let login = Login { user, ssh, prompts: None, since: clock::now(), share };
        self.go_on(settings, browser, login, step).await
    }

    /// Goes on with one, by what was typed.
    pub(crate) async fn answer(
        &self,
        settings: &Settings,
        browser: Browser<'_>,
        id: Uuid,
        mut answers: Vec<String>,
    ) -> Result<Next, Refused> {
        let found = self.waiting.lock().logins.remove(&id);
        let mut login = found.filter(|login| !login.is_old()).ok_or(Refused::TooLate)?;
        let wanted = login.prompts;
        // As many as were asked for, whatever the form says.
        answers.resize(wanted.unwrap_or(1), String::new());
        let step = match wanted {
            Some(_) => login.ssh.answer(answers).await?,
            None => {
                let mut password = answers.pop().unwrap_or_default();
                let step = login.ssh.password(&login.user, &password).await;
                password.zeroize();
                step?
            }
        };
        self.go_on(settings, browser, login, step).await
    }

    async fn go_on(
        &self,
        settings: &Settings,
        browser: Browser<'_>,
        mut login: Login,
        step: Step,
    ) -> Result<Next, Refused> {
        let (heading, prompts) = match step {
            Step::In => return let_in(settings, browser, login).await,
            Step::Password => (String::new(), None),
            Step::Ask { heading, prompts } => (heading, Some(prompts)),
        };
        login.prompts = prompts.as_ref().map(Vec::len);
        login.since = clock::now();
        let id = Uuid::new_v4();
        let mut waiting = self.waiting.lock();
        waiting.tidy();
        waiting.logins.insert(id, login);
        Ok(Next::Form { id, heading, prompts })
    }
}

impl Login {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= FORM_MAX || self.ssh.is_closed()
    }
}

impl Waiting {
    /// Forgets those that were left, so that a share is held for no longer.
    fn tidy(&mut self) {
        if self.tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            self.tidied = Some(clock::now());
            self.logins.retain(|_, login| !login.is_old());
        }
    }
}

/// sshd has let the user in: the broker is asked to know this browser from now on.
async fn let_in(
    settings: &Settings,
    browser: Browser<'_>,
    Login { ssh, share, .. }: Login,
) -> Result<Next, Refused> {
    let seed = Zeroizing::new(rand::random::<[u8; SEED]>());
    let public = ssh::public(&ssh::key(&seed)?)?;
    let mut broker = Broker::over(ssh).await?;
    let Accepted { id, until_unix_ms, user } =
        broker.accept(public, settings.login_lifetime, browser.to_string()).await?;
    drop(share);
    let id = id.parse().map_err(|_| Refused::Broke("the broker gave no id".to_owned()))?;
    let left = until_unix_ms.saturating_sub(clock::unix_millis().0);
    tracing::info!(user, %id, address = %browser.address, "logged in");
    Ok(Next::In(Cookie { user, id, seed }, Duration::from_millis(left)))
}
