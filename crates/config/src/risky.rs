//! Values that would open a desktop to others, or run what somebody else has put there: named, so that they are not
//! taken over or used without a word.

/// Arguments of the X server that let others in or put its door elsewhere, without what they begin with, in small
/// letters, and how many words follow.
const X_ARGUMENTS: [(&str, usize); 15] = [
    ("ac", 0),
    ("auth", 1),
    ("broadcast", 0),
    ("indirect", 1),
    ("inetd", 0),
    ("interface", 1),
    ("listen", 1),
    ("nolock", 0),
    ("passwordfile", 1),
    ("query", 1),
    ("rfbauth", 1),
    ("rfbport", 1),
    ("rfbunixmode", 1),
    ("rfbunixpath", 1),
    ("securitytypes", 1),
];

/// Variables that make programs of others run code, by their beginning.
const VARIABLES: [&str; 14] = [
    "BASH_ENV",
    "BASH_FUNC_",
    "ENV",
    "GCONV_PATH",
    "GIO_EXTRA_MODULES",
    "GLIBC_TUNABLES",
    "GTK_MODULES",
    "GTK_PATH",
    "IFS",
    "LD_",
    "PERL5",
    "PYTHON",
    "QT_PLUGIN_PATH",
    "RUBY",
];

/// The X server's arguments without those that would let others in, and these.
#[must_use]
pub fn x_arguments(all: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    let mut words = all.iter();
    while let Some(word) = words.next() {
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
        // A parameter of Xvnc may also stand without the dash, with its value behind it.
        let is_name = word.starts_with('-') || value.is_some();
        let plain = name.trim_start_matches('-').to_ascii_lowercase();
        let found = X_ARGUMENTS.iter().find(|(risky, _)| is_name && plain == *risky);
        match found {
            None => good.push(word.clone()),
            Some((_, follow)) => {
                let follow = if value.is_some() { 0 } else { *follow };
                let all = std::iter::once(word).chain(words.by_ref().take(follow));
                refused.push(all.cloned().collect::<Vec<_>>().join(" "));
            }
        }
    }
    (good, refused)
}

/// Whether a variable makes programs run code that it names.
pub(crate) fn is_variable(name: &str) -> bool {
    VARIABLES.iter().any(|risky| match *risky {
        "ENV" | "IFS" => name == *risky,
        beginning => name.starts_with(beginning),
    })
}

/// Whether a folder for `PATH` may be taken over: a full path that is not where everybody can put programs.
pub(crate) fn is_program_folder(folder: &str) -> bool {
    let shared = ["/tmp", "/var/tmp", "/dev/shm"];
    folder.starts_with('/')
        && !shared.iter().any(|dir| std::path::Path::new(folder).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_others_in_is_told_apart() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (good, refused) = x_arguments(&words(
            "-br -ac -listen tcp -verbose 3 -SecurityTypes None rfbport=5901 --query=h -ardelay 5",
        ));
        assert_eq!(good, words("-br -verbose 3 -ardelay 5"));
        let all = ["-ac", "-listen tcp", "-SecurityTypes None", "rfbport=5901", "--query=h"];
        assert_eq!(refused, all);
        assert!(is_variable("LD_PRELOAD") && is_variable("ENV") && !is_variable("ENVIRONMENT"));
        assert!(
            is_program_folder("/usr/bin")
                && !is_program_folder(".")
                && !is_program_folder("/tmp/b")
        );
    }
}
