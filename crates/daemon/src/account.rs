//! The accounts that daemons run as which speak with other hosts: their own, with none of root's powers. Where root
//! starts one (by hand, as Pacemaker's resource agent does) it becomes its account by itself, so that there is one
//! shape of a running broker, and one of what listens on an agent.

use std::{ffi::CString, io, sync::OnceLock};

use nix::unistd::{Gid, Group, Uid, User, initgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Name of the broker's, and of its group.
pub const BROKER: &str = "vsmserver";
/// The same of what listens on an agent.
pub const AGENT: &str = "vsmagent";
/// The group of both: its members may read this host's key.
const KEY_GROUP: &str = "vsm-tls";

/// The account as this host knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: &'static str,
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
        "there is no user {0} on this host; systemd-sysusers vsm.conf makes it, and so does the package vsm-common"
    )]
    Missing(&'static str),
    /// The user database does not say.
    #[error("the user {0} cannot be looked up: {1}")]
    Unknown(&'static str, #[source] io::Error),
}

impl Account {
    /// Looks it up by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(name: &'static str) -> Result<Self, NoAccount> {
        let found =
            User::from_name(name).map_err(|error| NoAccount::Unknown(name, error.into()))?;
        let user = found.ok_or(NoAccount::Missing(name))?;
        Ok(Self { name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// The group that may read this host's key: that of the accounts of broker and agent; on a host that has none, the
    /// account's own.
    #[must_use]
    pub fn key_group(self) -> u32 {
        group(KEY_GROUP).unwrap_or(self.gid)
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
        let name = CString::new(self.name).map_err(io::Error::other)?;
        // With its other groups: by one of them it gives the admin socket to the administrators.
        initgroups(&name, gid)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        give_up()
    }
}

/// Gives up what the process may do beyond other processes of its user, for good.
///
/// # Errors
/// If the system refuses; then the process is to end.
pub fn give_up() -> io::Result<()> {
    let none = CapabilitySet::empty();
    // The kernel takes them from the ambient set too.
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}

/// The number of the broker's own group, looked up once; none = this host has no such account.
#[must_use]
pub fn broker_group() -> Option<u32> {
    static GROUP: OnceLock<Option<u32>> = OnceLock::new();
    *GROUP.get_or_init(|| Account::find(BROKER).ok().map(|account| account.gid))
}

/// The groups that may read a key of root's, looked up once: that of this host's key, and the accounts' own.
#[must_use]
pub fn key_groups() -> &'static [u32] {
    static GROUPS: OnceLock<Vec<u32>> = OnceLock::new();
    GROUPS.get_or_init(|| {
        let own = [BROKER, AGENT].map(|name| Account::find(name).ok().map(|account| account.gid));
        own.into_iter().flatten().chain(group(KEY_GROUP)).collect()
    })
}

fn group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}
