//! Known holes, by which `cargo xtask attack` shows that it would find real ones. Without the feature `holes`, which no
//! package has, there are none: [`is_open`] is then a constant.
//!
//! With it a daemon reads the name of the hole that it has from a file, so that one build has them all.

macro_rules! holes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A known hole.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Hole {
            $($(#[$doc])* $name,)*
        }

        impl Hole {
            /// Its name in the file.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

holes! {
    /// The table of who may call what is not asked.
    AccessTable = "access-table",
    /// A login by browser changes things for administrators however old it is.
    FreshLogin = "fresh-login",
    /// An agent does not compare epochs, nor whose they are.
    Epoch = "epoch",
    /// An agent takes any broker of the authority.
    AllowedClients = "allowed-clients",
    /// Sockets of the daemons are open to everybody.
    SocketMode = "socket-mode",
    /// Whoever answers in the place of a desktop's X server is taken for it.
    PeerUid = "peer-uid",
    /// The abstract names of displays are left to whoever takes them.
    AbstractName = "abstract-name",
    /// What is revoked counts.
    Revoked = "revoked",
    /// Root runs programs that others may change.
    ProgramOwner = "program-owner",
    /// Nobody has a share: one may take all connections.
    Share = "share",
    /// What a host tells of another host's session is believed.
    OthersSession = "others-session",
    /// A token is accepted as often as it is shown.
    TokenTwice = "token-twice",
    /// What hosts say is shown as it is.
    Unprintable = "unprintable",
    /// An issuer may sign for anybody.
    Issuer = "issuer",
    /// A user's call is about whosever session it names.
    Owner = "owner",
    /// One who may only look can type.
    ShadowFilter = "shadow-filter",
    /// A one-time key is good as often as it is used.
    OneTimeKey = "one-time-key",
    /// Root puts any certificate in place that is brought to it with its key.
    Install = "install",
    /// A host that sets its promise aside forgets it.
    Promise = "promise",
}

/// Where the name of the hole stands that this program has.
#[cfg(feature = "holes")]
const FILE: &str = "/etc/vsm/hole";

/// Whether this program has the hole, as it was when it first asked.
#[cfg(feature = "holes")]
#[must_use]
pub fn is_open(hole: Hole) -> bool {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::fs::read_to_string(FILE).unwrap_or_default()).trim() == hole.word()
}

/// Whether this program has the hole: it has none.
#[cfg(not(feature = "holes"))]
#[must_use]
pub const fn is_open(_: Hole) -> bool {
    false
}

/// No file and no variable opens one: it is known when the program is compiled.
#[cfg(not(feature = "holes"))]
const _: () = assert!(!is_open(Hole::AccessTable), "a program without the feature has no holes");
