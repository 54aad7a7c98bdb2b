//! All that a user reads, in each language.

mod de;
mod en;
mod openid;

use axum::http::{HeaderMap, header};

pub(crate) use self::openid::OpenIdWords;

/// The texts of one language.
#[derive(Debug)]
pub(crate) struct Words {
    /// As in `lang="…"`.
    pub(crate) code: &'static str,
    pub(crate) log_in: &'static str,
    pub(crate) name: &'static str,
    pub(crate) next: &'static str,
    pub(crate) password: &'static str,
    pub(crate) cancel: &'static str,
    pub(crate) again: &'static str,
    pub(crate) log_out: &'static str,
    pub(crate) desktop: &'static str,
    pub(crate) choose: &'static str,
    pub(crate) choose_text: &'static str,
    pub(crate) open: &'static str,
    pub(crate) new_desktop: &'static str,
    pub(crate) connected: &'static str,
    pub(crate) disconnected: &'static str,
    pub(crate) reference: &'static str,
    pub(crate) failed: &'static str,
    pub(crate) full_screen: &'static str,
    pub(crate) sessions: &'static str,
    pub(crate) no_desktop: &'static str,
    pub(crate) ends_in: &'static str,
    pub(crate) minutes: &'static str,
    pub(crate) extend: &'static str,
    pub(crate) extended: &'static str,
    pub(crate) end: &'static str,
    pub(crate) end_text: &'static str,
    pub(crate) end_it: &'static str,
    pub(crate) was_ended: &'static str,
    pub(crate) will_be_ended: &'static str,
    pub(crate) ending: &'static str,
    pub(crate) unreachable: &'static str,
    pub(crate) starting: &'static str,
    pub(crate) profile: &'static str,
    pub(crate) profile_later: &'static str,
    pub(crate) keys: &'static str,
    pub(crate) keyboard: &'static str,
    pub(crate) files: &'static str,
    pub(crate) close: &'static str,
    pub(crate) send_files: &'static str,
    pub(crate) hidden_files: &'static str,
    pub(crate) up: &'static str,
    pub(crate) more_files: &'static str,
    pub(crate) sent: &'static str,
    pub(crate) replace: &'static str,
    // What the desktop's page says, which gets these from its own HTML.
    pub(crate) connecting: &'static str,
    pub(crate) reconnecting: &'static str,
    pub(crate) ended: &'static str,
    pub(crate) taken: &'static str,
    pub(crate) dropped: &'static str,
    pub(crate) no_script: &'static str,
    // Why something was not done.
    pub(crate) no_route: &'static str,
    pub(crate) strange_host: &'static str,
    pub(crate) not_let_in: &'static str,
    pub(crate) too_late: &'static str,
    pub(crate) too_often: &'static str,
    pub(crate) busy: &'static str,
    pub(crate) logged_out: &'static str,
    pub(crate) no_key: &'static str,
    pub(crate) foreign: &'static str,
    /// The link to the pages for administrators; their own texts are with them.
    pub(crate) administration: &'static str,
    pub(crate) nothing_here: &'static str,
    pub(crate) not_shown: &'static str,
    pub(crate) many_files: &'static str,
    pub(crate) no_such_file: &'static str,
    pub(crate) no_permission: &'static str,
    pub(crate) file_exists: &'static str,
    pub(crate) file_failed: &'static str,
    pub(crate) openid: OpenIdWords,
}

/// The language that a browser likes best of those there are, by what it says in `Accept-Language`.
fn of(accept_language: &str) -> &'static Words {
    let liked = |part: &str| {
        let (tag, rest) = part.split_once(';').unwrap_or((part, ""));
        let weight = rest.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
        let language = tag.trim().split('-').next()?.to_ascii_lowercase();
        let words = [&en::WORDS, &de::WORDS].into_iter().find(|words| words.code == language)?;
        (weight > 0.0).then_some((weight, words))
    };
    let all = accept_language.split(',').take(32).filter_map(liked);
    // Of equal ones the first.
    let best = all.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map_or(&en::WORDS, |(_, words)| words)
}

/// The same, of a whole request.
pub(crate) fn of_request(headers: &HeaderMap) -> &'static Words {
    let said = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    of(said.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn the_language_is_the_browsers() {
        for (said, language) in [
            ("de-DE,de;q=0.9,en;q=0.8", "de"),
            ("en-GB,de;q=0.9", "en"),
            ("fr,de;q=0.5,en;q=0.4", "de"),
            ("fr", "en"),
            ("de;q=0", "en"),
            ("", "en"),
            (";;q=x,,", "en"),
        ] {
            assert_eq!(of(said).code, language, "{said:?}");
        }
    }
}
