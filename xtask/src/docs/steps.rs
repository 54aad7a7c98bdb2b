//! One page's steps, done by tests in another way than they stand there: twice, or with something left out.
//!
//! What is typed is what the page says, so that a test of the guide cannot drift away from the guide.

use std::path::Path;

use anyhow::{Result, bail};

use super::page::{self, Block, Page, What};
use super::run::Reader;
use crate::cluster::Cluster;

/// The steps of a page, on hosts that stand.
#[derive(Debug)]
pub struct Steps<'a> {
    page: Page,
    reader: Reader<'a>,
}

impl<'a> Steps<'a> {
    /// Reads the page in this folder.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn new(book: &Path, page: &str, cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { page: page::one(book, page)?, reader: Reader::new(cluster) })
    }

    /// Does a step, on those hosts of each of its blocks for which `wanted` is true of the host and what is typed
    /// there. What hands do is always done.
    ///
    /// # Errors
    /// When a block does not do what the page says; when there is nothing to do.
    pub fn step(&mut self, step: u8, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
        let blocks = self.page.blocks.iter().filter(|block| block.step == Some(step));
        let mut done = 0;
        for block in blocks.filter_map(|block| reduced(block, &wanted)) {
            let name = &self.page.name;
            self.reader.follow(&block).map_err(|error| error.context(name.clone()))?;
            done += 1;
        }
        if done == 0 { bail!("{}: step {step} has nothing to do", self.page.name) } else { Ok(()) }
    }
}

/// A block with the hosts that are wanted; none where none is.
fn reduced(block: &Block, wanted: impl Fn(&str, &str) -> bool) -> Option<Block> {
    let mut block = block.clone();
    if let What::Commands { hosts, commands, .. } = &mut block.what {
        let typed: Vec<_> = commands.iter().map(|command| &*command.text).collect();
        let typed = typed.join("\n");
        hosts.retain(|host| wanted(host, &typed));
        if hosts.is_empty() {
            return None;
        }
    }
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_done_where_it_is_wanted() {
        let text = "<!-- run: fresh -->\n```console,host=a+b\n# one\n# two\n```\n```text,host=lab\ncut the power of a\n```\n";
        let page = page::read("x.md", text).unwrap();
        let [typed, deed] = &page.blocks[..] else { panic!("{page:?}") };
        let on_b = reduced(typed, |host, text| host == "b" && text == "one\ntwo").unwrap();
        assert_eq!(on_b.what.to_string(), "b: one; two");
        assert!(reduced(typed, |_, text| text.contains("three")).is_none());
        assert!(reduced(deed, |_, _| false).is_some());
    }
}
