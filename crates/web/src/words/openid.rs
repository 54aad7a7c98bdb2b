//! What a user reads of logins by OpenID Connect, in each language.

/// The texts of one language.
#[derive(Debug)]
pub(crate) struct OpenIdWords {
    pub(crate) button: &'static str,
    // Why such a login came to nothing.
    pub(crate) off: &'static str,
    pub(crate) away: &'static str,
    pub(crate) declined: &'static str,
    pub(crate) token: &'static str,
    pub(crate) clock: &'static str,
    pub(crate) again: &'static str,
    pub(crate) user: &'static str,
}

pub(super) const EN: OpenIdWords = OpenIdWords {
    button: "Log in with your organisation's account",
    off: "This site does not take logins by another account. Please use your login name.",
    away: "The login service of your organisation cannot be reached at the moment. Please try again in a minute, or \
        use your login name.",
    declined: "You were not logged in at your organisation, or the login took too long. Please begin again.",
    token: "What your organisation's login service says does not count here. Please tell your administrator.",
    clock: "The clocks of this site and of your organisation's login service differ, so the login does not count. \
        Please tell your administrator.",
    again: "This login was used already. Please log in again.",
    user: "Your organisation's account has no desktop here. Please ask your administrator for one.",
};

pub(super) const DE: OpenIdWords = OpenIdWords {
    button: "Mit dem Konto Ihrer Organisation anmelden",
    off: "Hier gibt es keine Anmeldung mit einem anderen Konto. Bitte verwenden Sie Ihren Anmeldenamen.",
    away: "Der Anmeldedienst Ihrer Organisation ist zurzeit nicht erreichbar. Bitte versuchen Sie es in einer Minute \
        noch einmal, oder verwenden Sie Ihren Anmeldenamen.",
    declined: "Sie wurden bei Ihrer Organisation nicht angemeldet, oder die Anmeldung dauerte zu lange. Bitte \
        beginnen Sie noch einmal.",
    token: "Die Auskunft vom Anmeldedienst Ihrer Organisation gilt hier nicht. Bitte sagen Sie es Ihrer Administration.",
    clock: "Die Uhren hier und beim Anmeldedienst Ihrer Organisation gehen verschieden, deshalb gilt die Anmeldung \
        nicht. Bitte sagen Sie es Ihrer Administration.",
    again: "Diese Anmeldung wurde schon benutzt. Bitte melden Sie sich noch einmal an.",
    user: "Zum Konto Ihrer Organisation gibt es hier keinen Desktop. Bitte fragen Sie Ihre Administration danach.",
};
