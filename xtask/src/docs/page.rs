//! The pages of the guide as they are run: which blocks a page has, on which hosts, with which output.
//!
//! CONTRIBUTING.md tells writers how a block is written. Everything is read before anything is run, and what
//! cannot be understood is an error with file and line.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// A page and what of it is run.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path below the folder of the book.
    pub(crate) name: String,
    pub(crate) hosts: Hosts,
    pub(crate) blocks: Vec<Block>,
}

/// On which hosts a page is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// It has nothing to run.
    None,
    /// On hosts of its own, which have nothing but Debian and the packages.
    Fresh,
    /// On those of another page, as that one has left them.
    After(String),
}

/// What stands between two fences.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// The line of the opening fence.
    pub(crate) line: usize,
    /// The step of the guide whose heading stands above.
    pub(crate) step: Option<u8>,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Commands, to be typed on each of these hosts.
    Commands { hosts: Vec<String>, options: Options, commands: Vec<Command> },
    /// Something that hands do to a host.
    Deeds(Vec<Deed>),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Commands { hosts, commands, .. } => {
                let texts: Vec<_> = commands.iter().map(|command| &*command.text).collect();
                write!(f, "{}: {}", hosts.join(", "), texts.join("; "))
            }
            Self::Deeds(deeds) => {
                let texts: Vec<_> = deeds.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))
            }
        }
    }
}

/// What else a block's first line says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Who types `$` commands, where it is not the host's usual user.
    pub(crate) user: Option<String>,
    /// The commands are repeated until they print what is expected.
    pub(crate) wait: bool,
    /// Every session that blocks with this word print is the same one.
    pub(crate) session: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) line: usize,
    pub(crate) as_root: bool,
    pub(crate) text: String,
    /// The lines that it is to print; none = it may print what it likes.
    pub(crate) expected: Vec<String>,
}

/// Something that hands do to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) act: Act,
    pub(crate) host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    PullCable,
    PlugIn,
    CutPower,
    SwitchOn,
    NewDisks,
}

/// The sentences of deeds, with `HOST` for the host.
const DEEDS: [(&str, Act); 5] = [
    ("pull the cable of HOST", Act::PullCable),
    ("plug the cable of HOST in again", Act::PlugIn),
    ("cut the power of HOST", Act::CutPower),
    ("switch HOST on again", Act::SwitchOn),
    ("put empty disks into HOST and install Debian", Act::NewDisks),
];

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sentence = DEEDS.iter().find(|(_, act)| *act == self.act);
        f.write_str(&sentence.map_or("HOST", |(sentence, _)| sentence).replace("HOST", &self.host))
    }
}

/// The host of a block of deeds.
const LAB: &str = "lab";

/// Reads a page.
pub(crate) fn read(name: &str, text: &str) -> Result<Page> {
    let mut page = Page { name: name.to_owned(), hosts: Hosts::None, blocks: Vec::new() };
    let mut step = None;
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        match line.trim_end() {
            "<!-- run: fresh -->" => page.hosts = Hosts::Fresh,
            line if line.starts_with("<!-- run: after ") => {
                let other = line.trim_start_matches("<!-- run: after ").trim_end_matches(" -->");
                page.hosts = Hosts::After(other.to_owned());
            }
            line if line.starts_with("## ") => step = step_of(line),
            line if line.starts_with("```") => {
                let inside: Vec<_> =
                    lines.by_ref().take_while(|(_, line)| line.trim_end() != "```").collect();
                let info = line.trim_start_matches('`');
                let block = block(number, step, info, &inside)
                    .with_context(|| format!("{name}:{number}"))?;
                if block.is_none() && info.starts_with("console") && page.hosts != Hosts::None {
                    bail!("{name}:{number}: a console block that names no host is never run");
                }
                page.blocks.extend(block);
            }
            _ => {}
        }
    }
    if page.hosts == Hosts::None && !page.blocks.is_empty() {
        bail!("{name}: has blocks to run, and does not say on which hosts: <!-- run: fresh -->");
    }
    Ok(page)
}

/// `## Step 5: …` is 5.
fn step_of(heading: &str) -> Option<u8> {
    heading.strip_prefix("## Step ")?.split_once(':')?.0.parse().ok()
}

/// A block that is to be run; none where the first line names no host.
fn block(
    line: usize,
    step: Option<u8>,
    info: &str,
    inside: &[(usize, &str)],
) -> Result<Option<Block>> {
    let mut hosts = Vec::new();
    let mut options = Options::default();
    for word in info.split(',').skip(1) {
        match word.split_once('=') {
            Some(("host", names)) => hosts.extend(names.split('+').map(str::to_owned)),
            Some(("user", user)) => options.user = Some(user.to_owned()),
            Some(("session", label)) => options.session = Some(label.to_owned()),
            None if word == "wait" => options.wait = true,
            _ => bail!("{word:?}: a block knows host=, user=, session= and wait"),
        }
    }
    if hosts.is_empty() {
        return Ok(None);
    }
    let what = if hosts == [LAB] {
        What::Deeds(inside.iter().map(|(_, line)| deed(line)).collect::<Result<_>>()?)
    } else {
        What::Commands { hosts, options, commands: commands(inside)? }
    };
    Ok(Some(Block { line, step, what }))
}

fn deed(line: &str) -> Result<Deed> {
    for (sentence, act) in DEEDS {
        let (before, after) = sentence.split_once("HOST").unwrap_or_default();
        let host = line.trim().strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        if let Some(host) = host.filter(|host| !host.is_empty() && !host.contains(' ')) {
            return Ok(Deed { act, host: host.to_owned() });
        }
    }
    let known: Vec<_> = DEEDS.iter().map(|(sentence, _)| *sentence).collect();
    bail!("{line:?}: hands know {known:?}")
}

/// Commands begin with `$` or `#`; a line that ends with a backslash goes on, and a here-document lasts until its
/// last line. All else is what the command above prints.
fn commands(inside: &[(usize, &str)]) -> Result<Vec<Command>> {
    let mut commands: Vec<Command> = Vec::new();
    let mut lines = inside.iter();
    while let Some((number, line)) = lines.next() {
        let Some((as_root, first)) = prompt(line) else {
            let last = commands.last_mut();
            last.context("output stands above the first command")?
                .expected
                .push((*line).to_owned());
            continue;
        };
        let mut text = first.to_owned();
        while text.ends_with('\\') {
            let (_, next) = lines.next().context("the last line ends with a backslash")?;
            text += "\n";
            text += next;
        }
        if let Some(end) = here_document(&text) {
            loop {
                let (_, next) = lines.next().with_context(|| format!("{end} does not come"))?;
                text += "\n";
                text += next;
                if *next == end {
                    break;
                }
            }
        }
        commands.push(Command { line: *number, as_root, text, expected: Vec::new() });
    }
    if commands.is_empty() { bail!("no command: one begins with $ or #") } else { Ok(commands) }
}

fn prompt(line: &str) -> Option<(bool, &str)> {
    let user = line.strip_prefix("$ ").map(|text| (false, text));
    user.or_else(|| line.strip_prefix("# ").map(|text| (true, text)))
}

/// The line that ends the here-document which a command begins.
fn here_document(text: &str) -> Option<String> {
    let word = text.split_once("<<'")?.1;
    Some(word.split_once('\'')?.0.to_owned())
}

/// The pages of a book in the order of its summary.
pub(crate) fn names(summary: &str) -> Vec<String> {
    let link = |line: &str| {
        let (_, rest) = line.split_once("](")?;
        rest.split_once(')').map(|(path, _)| path.to_owned())
    };
    summary.lines().filter_map(link).filter(|path| !path.is_empty()).collect()
}

/// Reads all pages of a book.
pub(crate) fn all(book: &Path) -> Result<Vec<Page>> {
    names(&text(book, "SUMMARY.md")?).iter().map(|name| one(book, name)).collect()
}

/// Reads one page of a book.
pub(crate) fn one(book: &Path, name: &str) -> Result<Page> {
    read(name, &text(book, name)?)
}

fn text(book: &Path, name: &str) -> Result<String> {
    let path = book.join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(block: &str) -> Result<Page> {
        read("a.md", &format!("<!-- run: fresh -->\n## Step 3: x\n{block}\n"))
    }

    #[test]
    fn a_block_has_hosts_options_commands_and_what_they_print() {
        let page = one(
            "```console,host=a+b,user=bob,session=s,wait\n$ one \\\n  more\nout\n…\n# two <<'END'\n# in it\nEND\n```",
        )
        .unwrap();
        let [Block { line: 3, step: Some(3), what }] = &page.blocks[..] else { panic!("{page:?}") };
        let What::Commands { hosts, options, commands } = what else { panic!("{what:?}") };
        assert_eq!(hosts, &["a", "b"]);
        assert!(options.wait);
        assert_eq!(options.user.as_deref(), Some("bob"));
        assert_eq!(options.session.as_deref(), Some("s"));
        let wanted = [
            Command {
                line: 4,
                as_root: false,
                text: "one \\\n  more".to_owned(),
                expected: vec!["out".to_owned(), "…".to_owned()],
            },
            Command {
                line: 8,
                as_root: true,
                text: "two <<'END'\n# in it\nEND".to_owned(),
                expected: Vec::new(),
            },
        ];
        assert_eq!(commands, &wanted);
    }

    #[test]
    fn hands_do_what_a_sentence_says() {
        let page = one("```text,host=lab\npull the cable of a\nswitch b on again\n```").unwrap();
        let What::Deeds(deeds) = &page.blocks[0].what else { panic!("{page:?}") };
        let deed = |act, host: &str| Deed { act, host: host.to_owned() };
        assert_eq!(deeds, &[deed(Act::PullCable, "a"), deed(Act::SwitchOn, "b")]);
        assert_eq!(page.blocks[0].what.to_string(), "pull the cable of a; switch b on again");
        assert!(one("```text,host=lab\nkick a\n```").is_err());
    }

    #[test]
    fn what_would_not_be_run_as_it_is_meant_is_an_error() {
        for bad in [
            "```console\n$ a\n```",
            "```console,host=a,hosts=b\n$ a\n```",
            "```console,host=a\nout\n$ a\n```",
            "```console,host=a\n$ a \\\n```",
            "```console,host=a\n# a <<'END'\n```",
            "```console,host=a\n```",
        ] {
            assert!(one(bad).is_err(), "{bad}");
        }
        assert!(one("```text\n$ not run\n```").unwrap().blocks.is_empty());
        assert!(read("a.md", "```console,host=a\n$ a\n```\n").is_err());
    }
}
