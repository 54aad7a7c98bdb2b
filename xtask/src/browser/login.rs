//! A login by browser: whatever forms there are, answered as their owner would.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use super::Browser;
use crate::cluster::web::{PASSWORD, code};

/// So many forms a login may have.
const FORMS_MAX: usize = 8;
/// How long the next page may take.
const PAGE_WAIT: Duration = Duration::from_secs(60);
/// What the page's forms ask for, by the words beside each field; each field is marked with its number.
const ASKED: &str = "
    const fields = [...document.querySelectorAll('form input:not([type=hidden]):not([type=submit])')];
    return fields.map((field, n) => { field.dataset.asked = n; return field.labels[0].innerText.trim(); });";
/// Whether the page is another one than that which was marked, and all of it.
const NEXT: &str = "return !window.before && document.readyState === 'complete'";

impl Browser<'_> {
    /// Answers one form after the other with the name, password and code of `user`, until there is none; what was
    /// asked.
    ///
    /// # Errors
    /// When a page does not come, or forms do not end.
    pub fn log_in(&self, user: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for _ in 0..FORMS_MAX {
            let asked: Vec<String> = serde_json::from_value(self.execute(ASKED, &[])?)?;
            if asked.is_empty() {
                return Ok(all);
            }
            for (number, words) in asked.iter().enumerate() {
                let lower = words.to_lowercase();
                let answer = if lower.contains("password") {
                    PASSWORD.to_owned()
                } else if lower.contains("code") {
                    code()?
                } else {
                    user.to_owned()
                };
                self.fill(&format!("[data-asked=\"{number}\"]"), &answer)?;
            }
            all.extend(asked);
            self.submit()?;
        }
        bail!("still asked after {FORMS_MAX} forms: {all:?}; the page says {:?}", self.text()?)
    }

    /// Sends the page's form, and waits for the next page.
    ///
    /// # Errors
    /// When there is none.
    pub fn submit(&self) -> Result<()> {
        self.execute("window.before = true", &[])?;
        self.click("form button, form [type=submit]")?;
        self.wait("the next page", PAGE_WAIT, |browser| match browser.execute(NEXT, &[]) {
            Ok(Value::Bool(true)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    }
}
