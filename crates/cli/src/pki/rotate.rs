//! A new authority in the place of the old one, as far as that is files: `DIR/new` has the new one from the beginning
//! to the end, and `DIR/old-…` the old one after that. The old one vouches for the new one in `DIR/new/cross.pem`,
//! which is written last and goes last: while it is there a rotation is on, and before it is there nothing is signed by
//! the new one. So each step can be interrupted and done again.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use clap::Args;
use vsm_core::Hash;
use vsm_daemon::{
    authorities::Certificate,
    clock,
    pki::{self, Signer},
};

use super::{AUTHORITY_DAYS, cannot, failed, replace};
use crate::{
    exit::{CONFIG, Failure, USAGE},
    output,
};

/// Digits of a hash by which a person tells two apart.
const SHORT: usize = 8;

/// How the new authority is made.
#[derive(Debug, Args)]
pub struct BeginArgs {
    /// Directory of the authority; the new one is made in the directory `new` in it
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/ca")]
    dir: PathBuf,
    /// Name of the new authority, shown in certificates [default: VSM cluster and today's date]
    #[arg(long)]
    name: Option<String>,
}

/// The files of an authority.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        Self { certificate: dir.join("ca.pem"), key: dir.join("ca.key") }
    }

    fn load(&self) -> Result<Signer, Failure> {
        Signer::load(&self.certificate, &self.key).map_err(|error| failed(&error))
    }

    fn certificate(&self) -> Result<Certificate, Failure> {
        let text = fs::read_to_string(&self.certificate).map_err(|source| {
            failed(&pki::PkiError::Read { path: self.certificate.clone(), source })
        })?;
        let why = || format!("{} holds no certificate", self.certificate.display());
        Certificate::all(&text).into_iter().next().ok_or_else(|| Failure::new(CONFIG, why()))
    }
}

/// Where a rotation stands, by the files.
#[derive(Debug)]
pub(crate) enum Stage {
    /// None is on: this one signs.
    None(Certificate),
    /// The new one signs, and the old one is still trusted.
    Begun { old: Certificate, new: Certificate },
    /// The end was interrupted.
    Ending,
    /// It is over; the last that was replaced, and the one that signs.
    Over { old: Certificate, new: Certificate },
}

impl Stage {
    /// How it stands in this directory.
    pub(crate) fn of(dir: &Path) -> Result<Self, Failure> {
        let (own, new) = (Files::of(dir), Files::of(&dir.join("new")));
        if !cross(dir).exists() {
            let signs = own.certificate()?;
            return Ok(match last_old(dir)? {
                Some(old) => Self::Over { old, new: signs },
                None => Self::None(signs),
            });
        }
        if new.key.exists() && new.certificate.exists() {
            return Ok(Self::Begun { old: own.certificate()?, new: new.certificate()? });
        }
        Ok(Self::Ending)
    }
}

/// What signs now, and what goes with its certificates.
pub(super) struct Signing {
    pub(super) signer: Signer,
    /// By which those trust it who know the old authority alone; empty where no rotation is on.
    pub(super) cross: String,
    /// What hosts are to trust.
    pub(super) trusted: String,
}

/// The authority that signs now.
pub(super) fn signing(dir: &Path) -> Result<Signing, Failure> {
    if !cross(dir).exists() {
        let signer = Files::of(dir).load()?;
        let trusted = signer.pem().to_owned();
        return Ok(Signing { signer, cross: String::new(), trusted });
    }
    match Stage::of(dir)? {
        Stage::Begun { old, .. } => {
            let signer = Files::of(&dir.join("new")).load()?;
            let path = cross(dir);
            let cross = fs::read_to_string(&path)
                .map_err(|source| failed(&pki::PkiError::Read { path, source }))?;
            let trusted = format!("{}{}", signer.pem(), old.pem);
            Ok(Signing { signer, cross, trusted })
        }
        Stage::Ending | Stage::None(_) | Stage::Over { .. } => Err(Failure::new(1, INTERRUPTED)),
    }
}

/// What is said while an end is half done.
pub(crate) const INTERRUPTED: &str = "the end of a rotation was interrupted: run vsmctl pki rotate finish again, which goes on with it";

/// `vsmctl pki rotate begin`: a new authority beside the old one, which vouches for it.
///
/// # Errors
/// If a rotation is on, the old authority's key is not there, or the files cannot be written.
pub fn begin(arguments: &BeginArgs) -> Result<(), Failure> {
    let dir = &arguments.dir;
    let _turn = turn(dir)?;
    match Stage::of(dir)? {
        Stage::None(_) | Stage::Over { .. } => {}
        Stage::Begun { new, .. } => {
            let text = format!(
                "a rotation has begun already, to {}: vsmctl pki rotate status says how it stands",
                named(&new)
            );
            return Err(Failure::new(1, text));
        }
        Stage::Ending => return Err(Failure::new(1, INTERRUPTED)),
    }
    let old = Files::of(dir).load()?;
    let was = Files::of(dir).certificate()?;
    let name = arguments.name.clone().unwrap_or_else(|| {
        let today: String = clock::shown(clock::unix_millis()).chars().take(10).collect();
        format!("VSM cluster {today}")
    });
    if was.subject() == name {
        let text =
            format!("the old authority is named {name:?} too: give the new one another --name");
        return Err(Failure::new(USAGE, text));
    }
    let (pem, key) = pki::make_authority(&name, AUTHORITY_DAYS).map_err(|error| failed(&error))?;
    let new = Certificate::all(&pem).into_iter().next();
    let new = new.ok_or_else(|| Failure::new(CONFIG, "the new certificate cannot be read"))?;
    let vouched = old.vouch(&new).map_err(|error| failed(&error))?;
    let place = dir.join("new");
    make_private(&place)?;
    let files = Files::of(&place);
    replace(&files.key, 0o600, &key)?;
    replace(&files.certificate, 0o644, &pem)?;
    replace(&cross(dir), 0o644, &vouched)?;
    output::say(&format!(
        "Made {} in {}; guard its ca.key as the old one. From now on vsmctl pki issue and issuer sign with it.\n\
         Next, for one broker after the other, the standby first: vsmctl pki issue, with each --address that it had, and\n\
         vsmctl pki issuer; their files to /etc/vsm/pki there, and vsmctl reload. Then vsmctl pki renew --all, and vsmctl pki rotate status says who is not there yet.",
        named(&new),
        place.display()
    ))
}

/// Moves the old authority aside and the new one in its place; where the old one is then.
pub(crate) fn end(dir: &Path) -> Result<PathBuf, Failure> {
    let _turn = turn(dir)?;
    let (own, new) = (Files::of(dir), Files::of(&dir.join("new")));
    let vouched = fs::read_to_string(cross(dir)).map_err(|error| cannot(&cross(dir), &error))?;
    let key = Certificate::all(&vouched).first().map(|one| one.shown.key);
    let present = own.certificate()?;
    if Some(present.shown.key) != key {
        let aside = aside(dir, present.shown.key);
        make_private(&aside)?;
        let old = Files::of(&aside);
        // What is there already is a copy of this by an earlier attempt; then the key may be the new one's by now.
        let private = fs::read_to_string(&own.key).map(pki::Private::new);
        match private {
            Ok(text) if pki::public_key(&text) == Some(present.shown.key) => {
                replace(&old.key, 0o600, &text)?;
            }
            // It may be kept elsewhere.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(&own.key, &error)),
        }
        replace(&old.certificate, 0o644, &present.pem)?;
    }
    moved(&new.key, &own.key)?;
    moved(&new.certificate, &own.certificate)?;
    fs::remove_file(cross(dir)).map_err(|error| cannot(&cross(dir), &error))?;
    // Nothing is in it but what somebody else has put there.
    let _ = fs::remove_dir(dir.join("new"));
    last_old_dir(dir)?.ok_or_else(|| Failure::new(CONFIG, "the old authority is gone"))
}

/// An authority as a person tells it from another one.
pub(crate) fn named(one: &Certificate) -> String {
    let until = clock::shown(one.shown.until);
    format!("the authority {} ({}, until {until})", one.subject(), short(one.shown.key))
}

/// The first digits of a hash.
pub(crate) fn short(key: Hash) -> String {
    key.to_string().chars().take(SHORT).collect()
}

/// One at a time changes an authority; until it is dropped.
fn turn(dir: &Path) -> Result<fs::File, Failure> {
    let open = fs::File::open(dir).map_err(|error| cannot_read(dir, &error))?;
    match open.try_lock() {
        Ok(()) => Ok(open),
        Err(fs::TryLockError::WouldBlock) => {
            let text = format!("somebody else is changing the authority in {}", dir.display());
            Err(Failure::new(1, text))
        }
        Err(fs::TryLockError::Error(error)) => Err(cannot(dir, &error)),
    }
}

fn cross(dir: &Path) -> PathBuf {
    dir.join("new").join("cross.pem")
}

fn aside(dir: &Path, key: Hash) -> PathBuf {
    dir.join(format!("old-{}", short(key)))
}

/// The authority that was replaced last.
fn last_old(dir: &Path) -> Result<Option<Certificate>, Failure> {
    last_old_dir(dir)?.map(|dir| Files::of(&dir).certificate()).transpose()
}

fn last_old_dir(dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| cannot_read(dir, &error))? {
        let path = entry.map_err(|error| cannot_read(dir, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = path.join("ca.pem");
        if name.starts_with("old-")
            && let Ok(at) = fs::metadata(&file).and_then(|file| file.modified())
        {
            found.push((at, path));
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(CONFIG, format!("cannot read {}: {error}", path.display()))
}

fn make_private(dir: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| cannot(dir, &error))
}

/// Durable when it returns. What an earlier attempt has moved is not there any more.
fn moved(from: &Path, to: &Path) -> Result<(), Failure> {
    let dir = to.parent().unwrap_or_else(|| Path::new("/"));
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| fs::File::open(dir)?.sync_all()),
    }
    .map_err(|error| cannot(to, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{InitArgs, init};

    fn begun(dir: &Path) -> (String, String) {
        init(&InitArgs { dir: dir.to_owned(), name: "old".into() }).unwrap();
        begin(&BeginArgs { dir: dir.to_owned(), name: Some("new".into()) }).unwrap();
        (text(dir, "ca.pem"), text(dir, "new/ca.pem"))
    }

    fn text(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    fn all(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let below = all(&path).into_iter();
                found.extend(below.map(|(file, text)| (format!("{name}/{file}"), text)));
            } else {
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_rotation_begins_once_and_signs_with_the_new_authority() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        assert_eq!(Stage::of(dir).unwrap_err().code, crate::exit::NOT_FOUND);
        let (old, new) = begun(dir);
        let signing = signing(dir).unwrap();
        assert_eq!((signing.signer.pem(), signing.trusted), (new.as_str(), format!("{new}{old}")));
        let twice = begin(&BeginArgs { dir: dir.to_owned(), name: None }).unwrap_err();
        assert!(twice.code == 1 && twice.text.contains("has begun already"), "{twice}");
        assert_eq!(text(dir, "new/ca.pem"), new, "nothing is changed");
        assert!(matches!(Stage::of(dir).unwrap(), Stage::Begun { .. }));
        let _somebody = turn(dir).unwrap();
        assert!(end(dir).unwrap_err().text.contains("somebody else"));
    }

    #[test]
    fn a_rotation_needs_the_old_key_and_another_name() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        init(&InitArgs { dir: dir.to_owned(), name: "old".into() }).unwrap();
        let begin = |name: &str| begin(&BeginArgs { dir: dir.to_owned(), name: Some(name.into()) });
        assert_eq!(begin("old").unwrap_err().code, USAGE);
        assert_eq!(begin(&"x".repeat(65)).unwrap_err().code, USAGE);
        fs::rename(dir.join("ca.key"), dir.join("lost")).unwrap();
        assert!(begin("new").unwrap_err().text.contains("ca.key"));
        assert!(!dir.join("new").exists());
        fs::rename(dir.join("lost"), dir.join("ca.key")).unwrap();
        // Interrupted before the old one has vouched: nothing was signed by it, and it is made again.
        begin("new").unwrap();
        fs::remove_file(dir.join("new/cross.pem")).unwrap();
        let before = text(dir, "new/ca.pem");
        assert_eq!(signing(dir).unwrap().signer.pem(), text(dir, "ca.pem"));
        begin("new").unwrap();
        assert_ne!(text(dir, "new/ca.pem"), before);
    }

    /// Wherever it is interrupted, the same command ends it, and until then nothing is signed.
    #[test]
    fn an_interrupted_end_is_ended_by_the_same_command() {
        let temporary = tempfile::tempdir().unwrap();
        let made = temporary.path().join("0");
        let (old, new) = begun(&made);
        let begun = all(&made);
        let old_dir = format!("old-{}", short(Certificate::all(&old)[0].shown.key));
        let copy = |name: &str| {
            let dir = temporary.path().join(name);
            for (file, text) in &begun {
                let path = dir.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                replace(&path, 0o600, text).unwrap();
            }
            dir
        };
        let whole = copy("whole");
        assert_eq!(end(&whole).unwrap(), whole.join(&old_dir));
        let wanted = all(&whole);
        let key_of = |name: &str| begun.iter().find(|(file, _)| file == name).unwrap().1.clone();
        assert_eq!(text(&whole, "ca.pem"), new);
        assert_eq!(text(&whole, &format!("{old_dir}/ca.key")), key_of("ca.key"));
        for step in 1..=4 {
            let dir = copy(&step.to_string());
            let aside = dir.join(&old_dir);
            fs::create_dir(&aside).unwrap();
            fs::copy(dir.join("ca.key"), aside.join("ca.key")).unwrap();
            if step >= 2 {
                fs::copy(dir.join("ca.pem"), aside.join("ca.pem")).unwrap();
            }
            if step >= 3 {
                fs::rename(dir.join("new/ca.key"), dir.join("ca.key")).unwrap();
                assert_eq!(signing(&dir).err().unwrap().code, 1);
                let again = begin(&BeginArgs { dir: dir.clone(), name: Some("third".into()) });
                assert_eq!(again.unwrap_err().text, INTERRUPTED);
            }
            if step >= 4 {
                fs::rename(dir.join("new/ca.pem"), dir.join("ca.pem")).unwrap();
            }
            end(&dir).unwrap();
            assert_eq!(all(&dir), wanted, "{step}");
            assert!(matches!(Stage::of(&dir).unwrap(), Stage::Over { .. }));
            signing(&dir).unwrap();
        }
    }

    /// The old key may be kept elsewhere, or lost, once it has vouched.
    #[test]
    fn the_end_needs_no_old_key() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        let (_, new) = begun(dir);
        fs::remove_file(dir.join("ca.key")).unwrap();
        let aside = end(dir).unwrap();
        assert!(!aside.join("ca.key").exists() && aside.join("ca.pem").exists());
        assert_eq!(signing(dir).unwrap().trusted, new);
    }
}
