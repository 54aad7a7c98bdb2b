//! PAM for a process that opens a session for a user who has proved who they are elsewhere: account check,
//! credentials, session, environment. Nobody can be asked anything, so a module that asks is refused.
//!
//! A binding of our own: the maintained ones want libclang or the headers at build time, and this needs ten functions
//! of an ABI that has not changed in twenty years. It links `libpam.so.0` by its full name, so that no development
//! package is needed.

mod ffi;

use std::{
    ffi::{CStr, CString, NulError},
    fmt,
    ptr::NonNull,
    rc::Rc,
};

/// A PAM call that failed, with what the modules said meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.line())]
pub struct PamError {
    /// The call, for example `account check`.
    pub step: &'static str,
    /// PAM's return code.
    pub code: i32,
    /// PAM's text for the code.
    pub text: String,
    /// What the modules wanted to show to the user, line by line.
    pub messages: Vec<String>,
}

impl PamError {
    fn line(&self) -> String {
        let mut line = format!("PAM {}: {}", self.step, self.text);
        for message in &self.messages {
            line.push_str("; ");
            line.push_str(message);
        }
        line
    }
}

/// An open PAM transaction. Dropping it ends the transaction, and closes the session and takes the credentials back
/// if they are there.
pub struct Pam {
    handle: NonNull<ffi::Handle>,
    /// Held by the transaction also, which has its own count.
    conversation: Rc<ffi::Conversation>,
    last: i32,
    credentials: bool,
    session: bool,
}

impl fmt::Debug for Pam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pam")
            .field("credentials", &self.credentials)
            .field("session", &self.session)
            .finish()
    }
}

/// A text item of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The terminal; for us the X display.
    Tty,
    /// The host that the user comes from.
    RemoteHost,
    /// The X display.
    Display,
}

impl Pam {
    /// Begins a transaction of `service` (a file in `/etc/pam.d`) for `user`.
    ///
    /// # Errors
    /// If PAM cannot be set up, or a text holds a NUL character.
    pub fn start(service: &str, user: &str) -> Result<Self, PamError> {
        let (service, user) = (c_text(service)?, c_text(user)?);
        let conversation = Rc::new(ffi::Conversation::default());
        let handle = ffi::start(&service, &user, &conversation).map_err(|code| PamError {
            step: "start",
            code,
            text: format!("error {code}"),
            messages: Vec::new(),
        })?;
        Ok(Self { handle, conversation, last: ffi::SUCCESS, credentials: false, session: false })
    }

    fn done(&mut self, step: &'static str, code: i32) -> Result<(), PamError> {
        self.last = code;
        let messages = self.conversation.take();
        if code == ffi::SUCCESS {
            return Ok(());
        }
        Err(PamError { step, code, text: ffi::error_text(self.handle, code), messages })
    }

    /// Sets a text item.
    ///
    /// # Errors
    /// If PAM refuses it, or it holds a NUL character.
    pub fn set(&mut self, item: Item, value: &str) -> Result<(), PamError> {
        let value = c_text(value)?;
        let code = ffi::set_item(self.handle, item, &value);
        self.done("set item", code)
    }

    /// Whether the account may be used now: not expired, not locked, allowed on this host.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_account(&mut self) -> Result<(), PamError> {
        let code = ffi::acct_mgmt(self.handle);
        self.done("account check", code)
    }

    /// Establishes the user's credentials in this process. The caller sets the groups first.
    ///
    /// # Errors
    /// If a module refuses.
    pub fn establish_credentials(&mut self) -> Result<(), PamError> {
        let code = ffi::setcred(self.handle, ffi::ESTABLISH_CRED);
        self.done("credentials", code)?;
        self.credentials = true;
        Ok(())
    }

    /// Opens the session.
    ///
    /// # Errors
    /// If a module refuses.
    pub fn open_session(&mut self) -> Result<(), PamError> {
        let code = ffi::open_session(self.handle);
        self.done("open session", code)?;
        self.session = true;
        Ok(())
    }

    /// The environment that the modules want the session to have.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        ffi::environment(self.handle)
            .iter()
            .filter_map(|entry| {
                let text = entry.to_string_lossy();
                text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
            })
            .collect()
    }

    /// Closes the session and takes the credentials back; told apart from dropping by its answer.
    ///
    /// # Errors
    /// The first of the two that failed; both were tried.
    pub fn close(mut self) -> Result<(), PamError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), PamError> {
        let mut result = Ok(());
        if std::mem::take(&mut self.session) {
            let code = ffi::close_session(self.handle);
            result = self.done("close session", code);
        }
        if std::mem::take(&mut self.credentials) {
            let code = ffi::setcred(self.handle, ffi::DELETE_CRED);
            result = result.and(self.done("credentials", code));
        }
        result
    }
}

impl Drop for Pam {
    fn drop(&mut self) {
        // Nobody is left to be told; `close` is for those who want to know.
        let _ = self.finish();
        ffi::end(self.handle, self.last, &self.conversation);
    }
}

fn c_text(text: &str) -> Result<CString, PamError> {
    CString::new(text).map_err(|error: NulError| PamError {
        step: "start",
        code: ffi::SYSTEM_ERR,
        text: error.to_string(),
        messages: Vec::new(),
    })
}

/// A copy of a C string, without what is not UTF-8.
fn lossy(text: &CStr) -> String {
    text.to_string_lossy().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_nowhere_refuses_the_account() {
        // Without a file of its own a service falls to `other`, which denies or asks; either way root gets an answer.
        let mut pam = Pam::start("vsm-no-such-service", "nobody-of-that-name").unwrap();
        pam.set(Item::Tty, ":10").unwrap();
        let error = pam.check_account().unwrap_err();
        assert_eq!(error.step, "account check");
        assert!(error.to_string().starts_with("PAM account check: "), "{error}");
    }

    #[test]
    fn a_text_with_nul_is_refused() {
        assert!(Pam::start("vsm", "a\0b").is_err());
    }
}
