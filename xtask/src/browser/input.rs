//! What a person does at a browser: click, fill in, press keys.

use anyhow::Result;
use fantoccini::Locator;
use fantoccini::actions::{
    InputSource, KeyAction, KeyActions, MOUSE_BUTTON_LEFT, MouseActions, PointerAction,
};
use fantoccini::key::Key;

use super::Browser;

impl Browser<'_> {
    /// Clicks in the middle of the first element that fits.
    ///
    /// # Errors
    /// When there is none, or something else is over it.
    pub fn click(&self, css: &str) -> Result<()> {
        let on = css.to_owned();
        self.tell(&format!("click {css}"), |client| async move {
            client.find(Locator::Css(&on)).await?.click().await
        })
    }

    /// Clicks into an element at this place, in pixels from its upper left corner.
    ///
    /// # Errors
    /// When there is none that fits.
    pub fn click_at(&self, css: &str, x: i32, y: i32) -> Result<()> {
        let on = css.to_owned();
        self.tell(&format!("click {css} at {x}, {y}"), |client| async move {
            let element = client.find(Locator::Css(&on)).await?;
            let (_, _, width, height) = element.rectangle().await?;
            // WebDriver counts from the middle.
            let (x, y) = (f64::from(x) - width / 2.0, f64::from(y) - height / 2.0);
            let there = PointerAction::MoveToElement { element, duration: None, x, y };
            let click = MouseActions::new("mouse".to_owned())
                .then(there)
                .then(PointerAction::Down { button: MOUSE_BUTTON_LEFT })
                .then(PointerAction::Up { button: MOUSE_BUTTON_LEFT });
            client.perform_actions(click).await
        })
    }

    /// Puts text into a field in place of what it has.
    ///
    /// # Errors
    /// When there is no field that fits.
    pub fn fill(&self, css: &str, text: &str) -> Result<()> {
        let (field, text) = (css.to_owned(), text.to_owned());
        self.tell(&format!("fill in {css}"), |client| async move {
            let field = client.find(Locator::Css(&field)).await?;
            field.clear().await?;
            field.send_keys(&text).await
        })
    }

    /// Chooses a file for a field of files: its path on the host.
    ///
    /// # Errors
    /// When there is no such field, or no such file.
    pub fn choose_file(&self, css: &str, path: &str) -> Result<()> {
        let (field, path) = (css.to_owned(), path.to_owned());
        self.tell(&format!("choose a file in {css}"), |client| async move {
            client.find(Locator::Css(&field)).await?.send_keys(&path).await
        })
    }

    /// Presses and releases the keys of a text one after the other, wherever the focus is.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn keys(&self, text: &str) -> Result<()> {
        let mut keys = KeyActions::new("keys".to_owned());
        for value in text.chars() {
            // As the key, and not as the character that ends a line.
            let value = if value == '\n' { char::from(Key::Enter) } else { value };
            keys = keys.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.tell("press keys", |client| async move { client.perform_actions(keys).await })
    }

    /// Holds these keys down together, and releases them in turn.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn chord(&self, together: &[char]) -> Result<()> {
        let mut keys = KeyActions::new("keys".to_owned());
        for value in together.iter().copied() {
            keys = keys.then(KeyAction::Down { value });
        }
        for value in together.iter().rev().copied() {
            keys = keys.then(KeyAction::Up { value });
        }
        self.tell("press keys together", |client| async move { client.perform_actions(keys).await })
    }
}
