//! What VSM reads from outside, each reader behind one function that takes any bytes and checks what must hold.
//!
//! `cargo xtask fuzz` gives these functions to libFuzzer, which looks for bytes that reach new code. The tests give
//! them the corpora, and bytes that differ a little from those: what was once found stays found, without libFuzzer too.

mod mutate;
mod targets;

pub use mutate::Mutator;

/// A reader of bytes that come from outside, and what it must hold.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Names it, and the folder of its corpus.
    pub name: &'static str,
    /// What must hold whatever the bytes are, beside that nothing panics.
    pub holds: &'static str,
    /// Longest input that is tried.
    pub length_max: usize,
    /// Inputs that a test makes from each of its corpus. Fewer where one takes long.
    pub variants: u32,
    /// Takes any bytes; panics if something does not hold.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident: $length_max:literal, $variants:literal, $holds:literal;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            holds: $holds,
            length_max: $length_max,
            variants: $variants,
            run: targets::$name::run,
        }),*];

        #[cfg(test)]
        mod tests {
            use super::*;

            /// `UPDATE=1 cargo test -p vsm-fuzz` writes it.
            #[test]
            fn the_table_in_the_readme_is_this_one() {
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
                let text = std::fs::read_to_string(path).unwrap();
                let (before, rest) = text.split_once("| target |").unwrap();
                let (_, after) = rest.split_once("\n\n").unwrap();
                let rows: String = TARGETS
                    .iter()
                    .map(|target| format!("| `{}` | {} |\n", target.name, target.holds))
                    .collect();
                let head = "| target | must hold |\n| --- | --- |\n";
                let wanted = format!("{before}{head}{rows}\n{after}");
                if std::env::var_os("UPDATE").is_some() {
                    std::fs::write(path, &wanted).unwrap();
                }
                assert!(text == wanted || std::env::var_os("UPDATE").is_some(), "UPDATE=1 writes it");
            }

            $(#[test]
            fn $name() {
                let target = TARGETS.iter().find(|target| target.name == stringify!($name));
                mutate::tests::replay(target.unwrap());
            })*
        }
    };
}

targets! {
    agent_calls: 8192, 100,
        "what root takes as a call is within its bounds, names no path, and is sent again as the same";
    config_edit: 1024, 60,
        "an edit changes one value and no comment, or is refused; set twice is set once";
    config_paths: 256, 10,
        "a path has one spelling; what is near is there; what is there has a description";
    config_yaml: 2048, 60,
        "what is read can be written, and is read again as the same; problems name a line that there is";
    hconf: 2048, 60,
        "what is taken over is a file that is read; patterns of %mount match as defined";
    journal: 4096, 200,
        "a half record at the end is forgotten, no whole one is lost, and a flipped bit is found";
    keepalived: 1024, 4,
        "the script ends well, and looks for addresses that the file has";
    lifecycle: 512, 200,
        "what is handed out runs and is committed, each machine comes to its end, and the table is what runs";
    login_line: 1024, 200,
        "one line is taken and nothing behind it; what is accepted says just that";
    messages: 4096, 100,
        "a message that makes sense goes through bytes and comes back as the same value";
    mountinfo: 2048, 200,
        "paths come out as the kernel wrote them; what is below a folder is relative to it";
    nft: 4096, 100,
        "a rule is ours by its mark";
    one_time_key: 2560, 200,
        "a key is one line of plain characters, and the line for sshd restricts it";
    peer_words: 4096, 40,
        "no commit goes back but by another table, and what is durable is what is held and can be begun with";
    records: 8192, 100,
        "what is read can be written, in one line, and is read again as the same";
    replica: 800, 20,
        "no commit goes back or differs, nothing that was acknowledged is lost, and the pair heals";
    rfb_filter: 4096, 400,
        "only messages that ask for pictures pass, whole, and however the stream is cut";
    root_request: 2048, 200,
        "a hook is a file of its folder, no variable but ours is set, and what is read is sent as one line";
    services: 1024, 40,
        "only those whom the table of access names are let in, and no service fails without a word";
    trail: 4096, 100,
        "what follows is taken, and only that; what is there again is no news; an event is printed as it was read";
    xauthority: 2048, 200,
        "the new entry comes first, others' stay in their order, what is damaged goes";
}
