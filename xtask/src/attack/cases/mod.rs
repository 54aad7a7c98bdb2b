//! The attempts, by who makes them.

mod administrator;
mod broker_user;
mod certificate;
mod client;
mod epoch;
mod flood;
mod hook;
mod neighbour;
mod network;
mod prepared;
mod service;
mod session_host;
mod taken_over;
pub(super) mod web;

use super::case::Case;

/// All of them, in the order in which they are made: who comes without a certificate first, before anybody is invited,
/// and who brings a session host down last.
pub(super) fn all() -> Vec<Case> {
    [
        network::all(),
        neighbour::all(),
        prepared::all(),
        broker_user::all(),
        web::all(),
        hook::all(),
        client::all(),
        service::all(),
        certificate::all(),
        epoch::all(),
        administrator::all(),
        flood::all(),
        taken_over::all(),
        session_host::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_enough_of_all_kinds_and_each_has_a_name_of_its_own() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() >= 120, "{}", all.len());
        let of_other_kinds = all.iter().filter(|case| case.calls == 0).count();
        assert!(of_other_kinds >= 60, "{of_other_kinds}");
        for case in &all {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(case.name.chars().all(fits), "{}", case.name);
            assert!(!case.gets.is_empty(), "{}", case.name);
        }
    }
}
