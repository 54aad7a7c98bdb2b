//! What a user does at a desktop in the page: types, copies and pastes, moves files, leaves and ends.

use fantoccini::key::Key;
use serde_json::{Value, json};
use xtask::browser::{Browser, Kind};
use xtask::cluster::web::Factors;
use xtask::{clock::wait_for, pair};

use super::{CONNECTED, PICTURE, SITE, becomes, enter, log_in, obstacles, open, run_in};
use crate::pair_of_brokers::Pair;
use crate::service::WAIT;

/// What alice types into her terminal, a line each.
const TYPED: &str = "/tmp/typed";

/// A desktop whose only program, all over it, takes down what is typed.
const TAKES_DOWN: &str = "cat > /etc/vsm/xsession <<'END'
#!/bin/sh
xset r off
LC_ALL=C.UTF-8 exec xterm -u8 -geometry 300x80+0+0 \\
  -xrm 'XTerm*VT100.translations: #override Ctrl<Key>v: insert-selection(CLIPBOARD)' \\
  -e sh -c 'cat >> /tmp/typed'
END";

pub(super) struct Site {
    pub(super) pair: Pair,
}

impl Site {
    pub(super) fn up(name: &str, script: &str) -> Self {
        let pair = super::pair(name, 1, Factors::Password, script);
        Self { pair }
    }

    /// Runs a line in alice's desktop.
    fn desktop(&self, line: &str) -> String {
        let (active, _) = self.pair.in_step();
        run_in(&self.pair, active, "alice", line)
    }

    fn typed(&self) -> String {
        self.pair.sh("agent1", &format!("cat {TYPED} 2>/dev/null; true"))
    }

    /// Waits until just this has been typed.
    fn has(&self, wanted: &str) {
        wait_for(&format!("{wanted:?} to be typed"), WAIT, || match self.typed() {
            typed if typed.trim_end() == wanted => Ok(()),
            typed => Err(format!("{typed:?}")),
        })
        .unwrap();
    }

    fn forget(&self) {
        self.pair.sh("agent1", &format!(": > {TYPED}"));
    }
}

/// The terminal has the keys where the pointer is.
fn point(site: &Site, browser: &Browser<'_>) {
    wait_for("the terminal", WAIT, || {
        let found = site.desktop("xdotool search --onlyvisible --class xterm || true");
        if found.trim().is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .unwrap();
    browser.click_at(PICTURE, 200, 200).unwrap();
}

fn keys_and_clipboards(kind: Kind, name: &str) {
    let site = Site::up(name, TAKES_DOWN);
    let browser = open(&site.pair, kind, name);
    enter(&browser, "alice");
    point(&site, &browser);
    browser.keys("Plain, (shifted) & 100% - 3*4=12\n").unwrap();
    site.has("Plain, (shifted) & 100% - 3*4=12");
    // No layout of the desktop's has all of these.
    site.forget();
    browser.keys("Grüße: ñ ł я €\n").unwrap();
    site.has("Grüße: ñ ł я €");

    // What an input method or a dead key makes, as a browser tells of it.
    site.forget();
    let compose = "
        const field = document.getElementById('keys');
        field.focus();
        for (const text of arguments[0]) {
          field.dispatchEvent(new CompositionEvent('compositionstart', { data: '' }));
          field.dispatchEvent(new CompositionEvent('compositionend', { data: text }));
        }";
    browser.execute(compose, &[json!(["ê", "日本語の文"])]).unwrap();
    browser.keys("\n").unwrap();
    site.has("ê日本語の文");

    // From the desktop to another page of the browser.
    let copied = "from the desktop: ä € 日本";
    site.desktop(&format!("printf '{copied}' | xclip -selection clipboard >/dev/null 2>&1"));
    browser
        .wait("the page to hear of it", WAIT, |browser| {
            // Somebody who is at the page presses a key now and then.
            browser.chord(&[char::from(Key::Shift)]).map_err(|error| error.to_string())?;
            let waiting = browser.execute("return window.vsm.clipboard()", &[]);
            let waiting = waiting.map_err(|error| error.to_string())?;
            if waiting == copied { Ok(()) } else { Err(waiting.to_string()) }
        })
        .unwrap();
    browser.go("https://tlha/login").unwrap();
    browser.click("#user").unwrap();
    browser.chord(&[char::from(Key::Control), 'v']).unwrap();
    becomes(&browser, "return document.getElementById('user').value", &json!(copied));

    // And from there to the desktop.
    browser.fill("#user", "to the desktop: ö 文").unwrap();
    browser.chord(&[char::from(Key::Control), 'a']).unwrap();
    browser.chord(&[char::from(Key::Control), 'c']).unwrap();
    browser.go("https://tlha/desktop").unwrap();
    becomes(&browser, CONNECTED, &json!(1));
    site.forget();
    browser.click_at(PICTURE, 200, 200).unwrap();
    browser.chord(&[char::from(Key::Control), 'v']).unwrap();
    browser.keys("\n").unwrap();
    site.has("to the desktop: ö 文");
}

#[test]
fn keys_and_clipboards_of_chromium_are_those_of_the_desktop() {
    keys_and_clipboards(Kind::Chromium, "web-keys");
}

#[test]
fn keys_and_clipboards_of_firefox_are_those_of_the_desktop() {
    keys_and_clipboards(Kind::Firefox, "web-keys-fx");
}

/// What the administrator forbids, the page does not do either.
#[test]
fn a_clipboard_that_is_forbidden_stays_where_it_is() {
    let name = "web-clipboard";
    let site = Site::up(name, TAKES_DOWN);
    let ban =
        "vsm-config /vsmagent/clipboard_to_client=false /vsmagent/clipboard_from_client=false";
    site.pair.sh("agent1", &format!("{ban} && kill -HUP $(pgrep -x vsmagent)"));
    let browser = open(&site.pair, Kind::Chromium, name);
    enter(&browser, "alice");
    point(&site, &browser);
    site.desktop("printf secret | xclip -selection clipboard >/dev/null 2>&1");
    browser.keys("a\n").unwrap();
    site.has("a");
    assert_eq!(browser.execute("return window.vsm.clipboard()", &[]).unwrap(), Value::Null);
    browser.execute("window.vsm.rfb.clipboardPasteFrom('forbidden')", &[]).unwrap();
    browser.keys("b\n").unwrap();
    site.has("a\nb");
    assert_eq!(site.desktop("xclip -selection clipboard -o"), "secret");
}

/// Keys that a telephone has not, and a page of its width.
#[test]
fn a_telephone_has_the_keys_that_it_lacks() {
    let name = "web-phone";
    let site = Site::up(name, TAKES_DOWN);
    let browser = open(&site.pair, Kind::Chromium, name);
    browser.resize(390, 800).unwrap();
    enter(&browser, "alice");
    point(&site, &browser);
    // The whole desktop is in the page, smaller than it is.
    let fits = "
        const canvas = document.querySelector('#screen canvas');
        return canvas.getBoundingClientRect().width <= innerWidth && canvas.width > innerWidth";
    becomes(&browser, fits, &json!(true));
    browser.execute("document.getElementById('pad-shown').click()", &[]).unwrap();
    browser.picture("keys").unwrap();
    browser.keys("wrong").unwrap();
    // Ctrl+U takes the line away.
    browser.click("#pad [data-hold=Control]").unwrap();
    becomes(
        &browser,
        "return document.querySelector('#pad [aria-pressed=true]')?.innerText",
        &json!("Ctrl"),
    );
    browser.keys("u").unwrap();
    becomes(&browser, "return document.querySelector('#pad [aria-pressed=true]')", &Value::Null);
    browser.keys("right\n").unwrap();
    site.has("right");
    assert_eq!(obstacles(&browser), Vec::<String>::new());
}

/// What an on-screen keyboard does, which has no keys: it changes the field's text.
#[test]
fn an_on_screen_keyboard_types() {
    let name = "web-screen-keys";
    let site = Site::up(name, TAKES_DOWN);
    let browser = open(&site.pair, Kind::Chromium, name);
    enter(&browser, "alice");
    point(&site, &browser);
    let insert = "
        const field = document.getElementById('keys');
        field.focus();
        for (const [command, value] of arguments[0]) document.execCommand(command, false, value);";
    let typed = json!([
        ["insertText", "words"],
        ["delete", null],
        ["insertText", "d"],
        ["insertText", " too"]
    ]);
    browser.execute(insert, &[typed]).unwrap();
    browser.keys("\n").unwrap();
    site.has("wordd too");
}

/// The page of a user's desktops: one more, ended, and what remains.
#[test]
fn desktops_are_begun_and_ended_in_the_page() {
    let name = "web-ending";
    let site = Site::up(name, pair::BARE_SCRIPT);
    for node in ["tlha-primary", "tlha-secondary"] {
        site.pair.sh(node, "vsm-config /vsmserver/max_sessions_per_user=2 && vsmctl reload");
    }
    let browser = open(&site.pair, Kind::Chromium, name);
    enter(&browser, "alice");
    browser.go("https://tlha/desktops").unwrap();
    browser.click("form[action='/desktop'] button").unwrap();
    becomes(&browser, CONNECTED, &json!(1));
    browser.go("https://tlha/desktops").unwrap();
    let rows = || browser.texts(".desktops li").unwrap();
    assert_eq!(rows().len(), 2, "{:?}", rows());
    browser.picture("two").unwrap();
    assert_eq!(obstacles(&browser), Vec::<String>::new());
    browser.click(".desktops li:first-child summary").unwrap();
    browser.click(".desktops li:first-child form[action='/end'] button").unwrap();
    becomes(
        &browser,
        "return document.querySelector('[role=status]')?.innerText",
        &json!("The desktop was ended."),
    );
    assert_eq!(rows().len(), 1, "{:?}", rows());
    let listed = site.pair.sh("tlha-primary", "vsmctl session list --output json");
    assert_eq!(serde_json::from_str::<Vec<Value>>(&listed).unwrap().len(), 1, "{listed}");
}

/// A screen at 400 % zoom has 320 pixels; a telephone has some more.
#[test]
fn each_page_is_usable_by_everybody_at_any_size() {
    let name = "web-sizes";
    let site = Site::up(name, pair::BARE_SCRIPT);
    let browser = open(&site.pair, Kind::Chromium, name);
    let look = |page: &str| {
        for (size, (width, height)) in
            [("zoomed", (320, 256)), ("phone", (390, 800)), ("desk", (1280, 800))]
        {
            browser.resize(width, height).unwrap();
            let over = "return document.documentElement.scrollWidth - innerWidth";
            let over = browser.execute(over, &[]).unwrap().as_i64().unwrap();
            let picture = browser.picture(&format!("{page}-{size}")).unwrap();
            assert!(over <= 0, "{page}, {size}: {over} pixels too wide: {}", picture.display());
            assert_eq!(obstacles(&browser), Vec::<String>::new(), "{page}, {size}");
        }
    };
    browser.go(SITE).unwrap();
    look("name");
    browser.fill("#user", "alice").unwrap();
    browser.submit().unwrap();
    look("password");
    browser.fill("form input[type=password]", "wrong").unwrap();
    browser.submit().unwrap();
    look("refused");
    browser.resize(1280, 800).unwrap();
    enter(&browser, "alice");
    look("desktop");
    browser.execute("document.getElementById('files-shown').click()", &[]).unwrap();
    browser.wait_css("#entries li", WAIT).unwrap();
    browser.execute("document.getElementById('pad-shown').click()", &[]).unwrap();
    look("files");
    browser.go("https://tlha/desktops").unwrap();
    browser.execute("document.querySelector('summary').click()", &[]).unwrap();
    look("desktops");
    browser.go("https://tlha/nothing").unwrap();
    look("nothing");
}

/// Two browsers and one desktop: it goes to whom it is opened by last, and back if that is what its user wants.
#[test]
fn a_desktop_that_is_opened_elsewhere_says_so_and_can_be_had_back() {
    let name = "web-two";
    let site = Site::up(name, pair::BARE_SCRIPT);
    let first = open(&site.pair, Kind::Chromium, name);
    enter(&first, "alice");
    super::paint(&site.pair, "alice", "#3050a0");
    let second = open(&site.pair, Kind::Chromium, name);
    second.go(SITE).unwrap();
    log_in(&second, "alice");
    super::shows(&second, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    let notice = "return document.getElementById('text').innerText";
    becomes(&first, notice, &json!("Your desktop was opened elsewhere."));
    first.picture("elsewhere").unwrap();
    first.click("#actions button").unwrap();
    becomes(&first, CONNECTED, &json!(2));
    super::shows(&first, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    becomes(&second, notice, &json!("Your desktop was opened elsewhere."));
}

/// A form whose login is not known any more, as it was left for long or the server was started again.
#[test]
fn a_form_that_was_left_says_what_to_do() {
    let name = "web-left";
    let site = Site::up(name, pair::BARE_SCRIPT);
    let browser = open(&site.pair, Kind::Chromium, name);
    browser.go(SITE).unwrap();
    browser.fill("#user", "alice").unwrap();
    browser.submit().unwrap();
    let (active, _) = site.pair.in_step();
    site.pair.stop_daemon(active, "vsm-web").unwrap();
    site.pair.start_daemon(active, "vsm-web").unwrap();
    browser.fill("form input[type=password]", "correct horse").unwrap();
    browser
        .wait("the answer", WAIT, |browser| {
            let _ = browser.execute("document.querySelector('form button')?.click()", &[]);
            let said = browser.texts("#error").map_err(|error| error.to_string())?;
            if said.iter().any(|it| it.starts_with("This took too long")) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        })
        .unwrap();
    browser.click("a.button").unwrap();
    log_in(&browser, "alice");
    becomes(&browser, CONNECTED, &json!(1));
}
