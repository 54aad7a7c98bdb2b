//! The account that the broker runs as: its own, with none of root's powers. Where root starts the broker (by hand, as
//! Pacemaker's resource agent does) it becomes that account by itself, so that there is one shape of a running broker.

use std::{ffi::CString, io, sync::OnceLock};

use nix::unistd::{Gid, Uid, User, initgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Its name, and that of its group.
pub const NAME: &str = "vsmserver";

/// The account as this host knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NoAccount {
    /// The host has no such user.
    #[error(
        "there is no user {NAME} on this host; systemd-sysusers vsm.conf makes it, and so does the package vsm-common"
    )]
    Missing,
    /// The user database does not say.
    #[error("the user {NAME} cannot be looked up: {0}")]
    Unknown(#[from] io::Error),
}

impl Account {
    /// Looks it up.
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self, NoAccount> {
        let found = User::from_name(NAME).map_err(io::Error::from)?;
        let user = found.ok_or(NoAccount::Missing)?;
        Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// The number of its group, looked up once; none = this host has no such account.
    #[must_use]
    pub fn group() -> Option<u32> {
        static GROUP: OnceLock<Option<u32>> = OnceLock::new();
        *GROUP.get_or_init(|| Self::find().ok().map(|account| account.gid))
    }

    /// Becomes it, for good: nothing that this process runs later gets more. To be called by root, before there are
    /// threads.
    ///
    /// # Errors
    /// If the system refuses; then the process is to end.
    pub fn become_it(self) -> io::Result<()> {
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            match capability_is_in_bounding_set(one) {
                Ok(true) => remove_capability_from_bounding_set(one)?,
                Ok(false) => {}
                // The kernel has no more of them.
                Err(_) => break,
            }
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let name = CString::new(NAME).map_err(io::Error::other)?;
        // With its other groups: by one of them it gives the admin socket to the administrators.
        initgroups(&name, gid)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none)?;
        set_no_new_privs(true)?;
        Ok(())
    }
}
