//! The reference, from the schema: what `vsm-config doc` prints, and `docs/parameters.md`.

use std::fmt::Write;

use crate::{
    keys::PARAMS,
    param::{self, Apply, Param, canonical},
    schema,
};

/// The description of the parameter at `path`, or of each in that folder; `None` where there is neither.
#[must_use]
pub fn text(path: &str) -> Option<String> {
    let path = canonical(path);
    if let Some(param) =
        PARAMS.iter().copied().find(|param| param.path == path).or_else(|| schema::find(&path))
    {
        return Some(one(param));
    }
    let parts: Vec<&str> = param::segments(&path).collect();
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let below: Vec<String> = PARAMS
        .iter()
        .filter(|param| param.path.starts_with(&prefix) || param.is_below(&parts))
        .map(|param| one(param))
        .collect();
    (!below.is_empty()).then(|| below.join("\n"))
}

fn folder_of(param: &Param) -> String {
    param.path.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

fn one(param: &Param) -> String {
    let default = if param.default.is_empty() { "(empty)" } else { param.default };
    let applies = match param.apply {
        Apply::Reload => "at reload",
        Apply::Restart => "at restart",
    };
    format!(
        "{}\n  {}\n  allowed: {}\n  default: {default}\n  takes effect: {applies}\n",
        param.path,
        param.meaning,
        param.kind.allowed()
    )
}

/// The whole reference as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Parameters\n\n\
         Generated from the schema in `crates/config/src/keys.rs`; do not edit. `vsm-config doc /path` prints the same.\n\n\
         Files are YAML, `/etc/vsm/conf.d/*.yaml`, read in name order; where two set the same parameter the later\n\
         file wins. A path is the chain of keys: `/vsmserver/HA/enabled` is `vsmserver: {HA: {enabled: true}}`.\n\
         `/HA`, `/subclusters` and `/agents` may be written for `/vsmserver/HA` and so on. Lists are YAML sequences or\n\
         words with blanks between them.\n",
    );
    let mut folder = String::new();
    for param in PARAMS {
        let own = folder_of(param);
        if own != folder {
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "\n## {}\n\n| key | allowed | default | takes effect | meaning |\n| --- | --- | --- | --- | --- |\n",
                escape(own.trim_end_matches('/'))
            );
            folder = own;
        }
        let key = param.path.rsplit_once('/').map_or(param.path, |(_, key)| key);
        let default =
            if param.default.is_empty() { String::new() } else { format!("`{}`", param.default) };
        let applies = match param.apply {
            Apply::Reload => "reload",
            Apply::Restart => "restart",
        };
        let _ = writeln!(
            out,
            "| `{key}` | {} | {default} | {applies} | {} |",
            escape(&param.kind.allowed()),
            escape(param.meaning)
        );
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn every_path_and_folder_has_a_text() {
        for param in PARAMS {
            assert!(text(param.path).unwrap().contains(param.meaning));
        }
        assert!(text("/vsmserver/HA/").unwrap().contains("ack_timeout"));
        assert!(text("/HA").unwrap().contains("ack_timeout"));
        assert!(text("/profiles/gnome").unwrap().contains("testcmd"));
        assert!(text("/profiles/gnome/icon").unwrap().contains("PNG"));
        assert_eq!(text("/nowhere"), None);
    }

    /// `UPDATE=1 cargo test -p vsm-config` writes the file anew.
    #[test]
    fn the_reference_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/parameters.md");
        let wanted = markdown();
        if env::var_os("UPDATE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &wanted).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == wanted, "docs/parameters.md is stale: UPDATE=1 cargo test -p vsm-config");
    }
}
