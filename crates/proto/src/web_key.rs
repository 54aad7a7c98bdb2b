//! Web keys, to and from their messages.

use std::sync::Arc;

use vsm_core::{OF_USER_MAX, UnixMillis, UserName, WebKey};

use crate::{
    convert::{Invalid, text},
    sync::v1 as pb,
};

impl TryFrom<pb::WebKeys> for (UserName, Arc<[WebKey]>) {
    type Error = Invalid;

    fn try_from(keys: pb::WebKeys) -> Result<Self, Invalid> {
        if keys.keys.len() > OF_USER_MAX {
            return Err(Invalid::new("web_keys.keys", format!("has more than {OF_USER_MAX}")));
        }
        let user: UserName = text("web_keys.user", &keys.user)?;
        let keys = keys.keys.into_iter().map(|key| {
            let (id, public) = (text("web_key.id", &key.id)?, &key.public_key);
            let public = text("web_key.public_key", public)?;
            let times = (UnixMillis(key.created_unix_ms), UnixMillis(key.until_unix_ms));
            let made = WebKey::new(id, user.clone(), public, times, key.asked_by);
            let made = made.map_err(|error| Invalid::new("web_key", error.to_string()))?;
            Ok(made.with_openid(key.openid))
        });
        let keys = keys.collect::<Result<_, _>>()?;
        Ok((user, keys))
    }
}

impl From<(&UserName, &[WebKey])> for pb::WebKeys {
    fn from((user, keys): (&UserName, &[WebKey])) -> Self {
        Self { user: user.to_string(), keys: keys.iter().map(Into::into).collect() }
    }
}

impl From<&WebKey> for pb::WebKey {
    fn from(key: &WebKey) -> Self {
        Self {
            id: key.id.to_string(),
            public_key: key.key.to_string(),
            created_unix_ms: key.created.0,
            until_unix_ms: key.until.0,
            asked_by: key.asked_by.clone(),
            openid: key.openid,
        }
    }
}
