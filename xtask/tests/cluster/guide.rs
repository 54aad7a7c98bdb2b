//! The runner of the guide: it does what a page says, and notices when that is not what comes of it.

use std::fs;
use std::path::PathBuf;

use xtask::docs::{Guide, Report};

use crate::XTASK;

/// A book of one page, in a folder that goes with the value.
struct Book(PathBuf);

impl Book {
    fn of(name: &str, pages: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("vsm-book-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let mut summary = "# Summary\n\n".to_owned();
        for (number, page) in pages.iter().enumerate() {
            summary += &format!("- [{number}]({number}.md)\n");
            fs::write(dir.join(format!("{number}.md")), page).unwrap();
        }
        fs::write(dir.join("SUMMARY.md"), summary).unwrap();
        Self(dir)
    }

    fn run(&self, name: &str) -> Report {
        let guide = Guide {
            book: self.0.clone(),
            name: crate::named(name),
            helper: XTASK.into(),
            medium: None,
            only: None,
            from: None,
            keep: false,
            progress: false,
            show: false,
        };
        guide.run().unwrap()
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FRESH: &str = "<!-- run: fresh -->\n";
const GOOD: &str = "```console,host=agent1+agent2\n# systemctl is-active ssh\nactive\n# uname -n\nagent…\n```\n\
    ```console,host=client\n$ ssh agent1 id -un\n…\nalice\n```\n";

#[test]
fn pages_are_done_on_hosts_with_systemd_that_the_next_page_shares() {
    let first = format!(
        "{FRESH}{GOOD}```console,host=agent1\n# echo kept > /etc/mark; echo gone > /run/mark\n```\n\
         ```text,host=lab\ncut the power of agent1\nswitch agent1 on again\n```\n"
    );
    let second = "<!-- run: after 0.md -->\n```console,host=agent1\n# cat /etc/mark\nkept\n# test ! -e /run/mark\n```\n\
         ```text,host=lab\nput empty disks into agent1 and install Debian\n```\n\
         ```console,host=agent1\n# test ! -e /etc/mark\n```\n\
         ```text,host=lab\npull the cable of agent1\n```\n\
         ```console,host=client,wait\n$ ! ssh -o ConnectTimeout=1 agent1 true\n```\n\
         ```text,host=lab\nplug the cable of agent1 in again\n```\n\
         ```console,host=client,wait\n$ ssh agent1 uname -n\nagent1\n```\n";
    let third = format!("{FRESH}```console,host=agent1\n# test ! -e /etc/mark\n```\n");
    let book = Book::of("good", &[&first, second, &third]);
    let report = book.run("book-good");
    assert_eq!(report.failures, [""; 0]);
    assert_eq!((report.blocks, report.failed, report.not_run), (12, 0, 0));
    assert!(!report.failover_ok && !report.converted_ok && report.steps == 0);
}

#[test]
fn a_block_that_does_not_do_what_it_says_fails_and_is_named() {
    let wrong = [
        ("# systemctl is-active keepalived", "root on agent1: systemctl is-active keepalived"),
        ("# uname -n\nagent2", "expected:\nagent2\nit printed:\nagent1"),
        ("$ id -u", "no user"),
    ];
    let pages = wrong.map(|(block, _)| {
        format!("{FRESH}\n```console,host=agent1,user=nobody-here\n{block}\n```\n{GOOD}")
    });
    let pages: Vec<_> = pages.iter().map(String::as_str).collect();
    let report = Book::of("bad", &pages).run("book-bad");
    assert_eq!((report.blocks, report.failed, report.not_run), (3, 3, 6));
    for (number, (failure, (_, why))) in report.failures.iter().zip(wrong).enumerate() {
        assert!(failure.starts_with(&format!("{number}.md:4: ")), "{failure}");
        assert!(failure.contains(why), "{failure}");
    }
}

#[test]
fn a_session_that_is_another_one_fails() {
    let id = |last: u8| format!("01980f2e-aaaa-7bbb-8ccc-01234567890{last}");
    let block =
        |id: &str| format!("```console,host=client,session=s\n$ echo 'session {id}'\n```\n");
    let page = format!("{FRESH}{}{}{}", block(&id(1)), block(&id(1)), block(&id(2)));
    let report = Book::of("session", &[&page]).run("book-session");
    assert_eq!((report.blocks, report.failed), (3, 1));
    assert!(report.failures[0].contains(&format!(
        "it was {} and is {}",
        &id(1)[24..],
        &id(2)[24..]
    )));
}
