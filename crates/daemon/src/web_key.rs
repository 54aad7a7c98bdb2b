//! Web keys, as the key socket of a broker answers for them: whether one lets its user in, and when it does no more.

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;
use vsm_core::{SshKey, UnixMillis, WebKeyId};

/// A web key that is followed.
#[derive(Debug)]
pub struct Followed {
    /// When its time is over.
    pub until: UnixMillis,
    /// Cancelled when it is good no more before that.
    pub over: Arc<CancellationToken>,
}

/// Why a web key is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFollowed {
    /// It is not good for this user; in one line.
    Refused(String),
    /// That is not known at the moment.
    NotKnown,
}

/// Who knows the web keys: a broker, by its copy of the table. It answers alike whether it is active or not.
#[tonic::async_trait]
pub trait WebKeys: fmt::Debug + Send + Sync {
    /// The web key with this public half that lets this user in now.
    fn offered(&self, user: &str, key: &SshKey) -> Option<WebKeyId>;

    /// Follows a web key of the user with this uid.
    ///
    /// # Errors
    /// See [`NotFollowed`].
    async fn follow(&self, uid: u32, id: WebKeyId) -> Result<Followed, NotFollowed>;
}
