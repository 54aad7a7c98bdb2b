//! What a user prepares before a desktop of theirs starts, ends or is asked for: files, names, links and sockets that
//! root comes across.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::broker_user::spare;
use crate::attack::case::{At, By, Case, Seen, Staying, case, stays, tool};
use crate::attack::stage::Stage;
use crate::clock::wait_for;
use crate::host::boot::VSM_BIN;
use crate::pair::{self, Desktop};

const BOB: &str = "bob";
const ROOT: &str = "root";
/// Where new desktops go.
const HOST: &str = "agent2";
const USER: &str = "user009";
/// How long a desktop may take to be gone.
const WAIT: Duration = Duration::from_secs(40);

/// Ends what a user has, and waits until nothing of it is left; false where it stays.
fn end(stage: &Stage<'_>, user: &str) -> Result<bool> {
    let active = stage.fact("active")?.to_owned();
    let _ = stage
        .sh("active", &format!("timeout 60 vsmctl session terminate --user {user} --assume-yes"));
    let gone = wait_for("the desktop to be gone", WAIT, || {
        let rows = pair::rows(stage.cluster, &active).map_err(|error| format!("{error:#}"))?;
        if rows.iter().any(|row| row.user == user) { Err(format!("{rows:?}")) } else { Ok(()) }
    });
    Ok(gone.is_ok())
}

/// A desktop that is new.
fn fresh(stage: &Stage<'_>, user: &str) -> Result<Desktop> {
    if !end(stage, user)? {
        bail!("the desktop of {user} does not end");
    }
    let desktop = spare(stage, user)?;
    if desktop.agent != HOST || !desktop.created {
        bail!("{desktop:?}");
    }
    Ok(desktop)
}

/// A variable that makes a program load something, in a file that PAM or a shell reads at a login.
fn preloaded(
    name: &'static str,
    host: &'static str,
    file: &'static str,
    line: &'static str,
) -> Case {
    const LOADED: &str = "ls /tmp/loaded";
    let attempt = move |stage: &Stage<'_>| {
        let line = line.replace("OBJECT", &format!("{VSM_BIN}/object.so"));
        end(stage, USER)?;
        stage.sh(host, "rm -f /tmp/loaded/*")?;
        let path = format!("/home/{USER}/{file}");
        stage.sh(host, &format!("printf '{line}\\n' > {path}; chown {USER} {path}"))?;
        let came = fresh(stage, USER);
        let loaded = stage.sh(host, LOADED);
        stage.sh(host, &format!("rm -f {path}"))?;
        came?;
        let loaded = loaded?.replace('\n', " ");
        // Those of the user's own show that it is loaded.
        if !loaded.contains("3009-") {
            bail!("nothing has loaded it: {loaded:?}");
        }
        Ok(Seen::won_if(loaded.split(' ').any(|one| one.starts_with("0-")), loaded))
    };
    let control = move |stage: &Stage<'_>| {
        let load = format!("rm -f /tmp/loaded/*; LD_PRELOAD={VSM_BIN}/object.so /bin/true");
        stage.sh(host, &load)?;
        let loaded = stage.sh(host, LOADED)?;
        Ok(Seen::won_if(loaded.lines().any(|one| one.starts_with("0-")), loaded.replace('\n', " ")))
    };
    case(name, By::Neighbour, "root, by what a user has programs load", attempt, control)
}

/// A mount whose name, as the kernel writes it, is that of a link elsewhere: what root then takes away.
fn detach() -> Case {
    const MOUNTED: &str = "mountpoint -q /mnt/foreign && echo there || echo gone";
    const MAKE: &str =
        "mkdir -p /mnt/foreign; mountpoint -q /mnt/foreign || mount -t tmpfs foreign /mnt/foreign";
    let attempt = |stage: &Stage<'_>| {
        let desktop = fresh(stage, USER)?;
        let dir = format!("/run/vsm/sessions/{}/user", desktop.session);
        // As a user does it with FUSE, which is root's program.
        stage.sh(HOST, &format!("{MAKE}; mkdir -p '{dir}/x y'; mount -t tmpfs own '{dir}/x y'; ln -s /mnt/foreign '{dir}/x\\040y'"))?;
        let ended = end(stage, USER)?;
        let now = stage.sh(HOST, MOUNTED)?;
        stage.sh(HOST, "umount /mnt/foreign; true")?;
        Ok(Seen::won_if(now != "there" || !ended, format!("{now}, ended: {ended}")))
    };
    let control = |stage: &Stage<'_>| {
        let now = stage.sh(HOST, &format!("{MAKE}; umount /mnt/foreign; {MOUNTED}"))?;
        Ok(Seen::won_if(now == "gone", now))
    };
    case(
        "have-root-detach-a-mount",
        By::Neighbour,
        "the end of a mount of somebody else's",
        attempt,
        control,
    )
}

/// A link below one's own folder to a folder of root's, which the end of the desktop clears away.
fn follow() -> Case {
    let cleared = |link: bool| {
        move |stage: &Stage<'_>| {
            let desktop = fresh(stage, USER)?;
            let dir = format!("/run/vsm/sessions/{}/user", desktop.session);
            stage.sh(HOST, "rm -rf /srv/kept; mkdir -p /srv/kept; echo 1 > /srv/kept/file")?;
            let to = if link { "/srv/kept" } else { dir.as_str() };
            if link {
                stage.cluster.output(
                    HOST,
                    USER,
                    &["ln", "-s", "/srv/kept", &format!("{dir}/deep")],
                )?;
            } else {
                stage.cluster.output(HOST, USER, &["touch", &format!("{dir}/file")])?;
            }
            end(stage, USER)?;
            let now = stage.sh(HOST, &format!("test -e {to}/file && echo there || echo gone"))?;
            Ok(Seen::won_if(now == "gone", now))
        }
    };
    case(
        "have-root-follow-a-link",
        By::Neighbour,
        "the end of files of root's",
        cleared(true),
        cleared(false),
    )
}

/// Another X server than one's own, for whoever views one's desktop.
fn in_the_place() -> Case {
    const ATTACH: &str = r#"{"op":"attach","address":"10.0.0.9"}"#;
    let attached = |stage: &Stage<'_>| {
        tool(stage, "agent1", BOB, &["say", "{bob.dir}/control.sock", ATTACH, "attached"])
    };
    let attempt = move |stage: &Stage<'_>| {
        let rfb = "{bob.dir}/user/rfb.sock";
        stage.sh_as(
            "agent1",
            BOB,
            &format!("mv {rfb} {rfb}.own && ln -s {{alice.dir}}/user/rfb.sock {rfb}"),
        )?;
        let seen = attached(stage);
        stage.sh_as("agent1", BOB, &format!("mv {rfb}.own {rfb}"))?;
        seen
    };
    let name = "answer-in-the-place-of-the-x-server";
    case(name, By::Neighbour, "alice's desktop, opened by root for bob", attempt, attached)
}

/// A socket of one's own whose queue is full: who waits for it waits for ever.
fn full_queue() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let desktop = fresh(stage, USER)?;
        let rfb = format!("/run/vsm/sessions/{}/user/rfb.sock", desktop.session);
        let _full = stays(stage, HOST, USER, &["full", &rfb])?;
        let ended = end(stage, USER)?;
        Ok(Seen::won_if(!ended, format!("ended: {ended}")))
    };
    let control = |stage: &Stage<'_>| {
        let path = "/tmp/full.sock";
        stage.sh(HOST, &format!("rm -f {path}; touch {path}; chown {USER} {path}"))?;
        let _full = stays(stage, HOST, USER, &["full", path])?;
        let line = format!(
            "timeout 5 python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{path}\")' && echo came || echo waits"
        );
        let said = stage.sh_as(HOST, USER, &line)?;
        Ok(Seen::won_if(said == "waits", said))
    };
    case(
        "keep-root-waiting-at-ones-socket",
        By::Neighbour,
        "a desktop that cannot be ended",
        attempt,
        control,
    )
}

/// Locks for all displays, of which none leads anywhere.
fn locks() -> Case {
    const MAKE: &str = "cd /tmp; for n in $(seq 10 140); do ln -sf /nowhere .X$n-lock 2>/dev/null; ln -sf /nowhere .tX$n-lock 2>/dev/null; done; ln -sf /nowhere .X11-lock 2>/dev/null; true";
    const CLEAR: &str = "cd /tmp; for n in $(seq 10 140); do rm -f .X$n-lock .tX$n-lock; done";
    let attempt = |stage: &Stage<'_>| {
        end(stage, USER)?;
        stage.sh_as(HOST, BOB, MAKE)?;
        let came = fresh(stage, USER);
        stage.sh(HOST, CLEAR)?;
        Ok(match came {
            Ok(desktop) => Seen::Lost(format!("{USER} has :{}", desktop.display)),
            Err(error) => Seen::Won(format!("{error:#}")),
        })
    };
    let control = |stage: &Stage<'_>| {
        stage.sh_as(HOST, BOB, MAKE)?;
        let line = "timeout 40 Xtigervnc :99 -rfbport -1 -rfbunixpath /tmp/own-rfb -SecurityTypes None -nolisten tcp 2>&1; echo ended $?";
        let said = stage.sh_as(HOST, USER, line);
        stage.sh(HOST, CLEAR)?;
        let said = said?;
        Ok(Seen::won_if(!said.contains("ended 124") && said.contains("ended"), said))
    };
    case("lock-all-displays", By::Neighbour, "no new desktops for others", attempt, control)
}

/// All abstract names that are left: a new desktop has one that is nobody's.
fn names() -> Case {
    let attempt = |stage: &Stage<'_>| {
        end(stage, USER)?;
        let (_held, numbers) = stays(stage, HOST, BOB, &["names", "0", "1000"])?;
        let came = fresh(stage, USER);
        Ok(match came {
            Err(error) => Seen::Won(format!("no desktop: {error:#}")),
            Ok(desktop) => {
                let number = desktop.display.to_string();
                Seen::won_if(
                    numbers.split(' ').any(|one| one == number),
                    format!("{USER} has :{number}"),
                )
            }
        })
    };
    let control = |stage: &Stage<'_>| {
        let (_held, numbers) = stays(stage, HOST, BOB, &["names", "0", "1000"])?;
        let number = numbers.split(' ').next().context("none")?.to_owned();
        let words = ["finds", "came", "sh", "-c"];
        let line = format!(
            "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"\\0/tmp/.X11-unix/X{number}\"); print(\"came\")'; exit 0"
        );
        tool(stage, HOST, USER, &[&words[..], &[&*line]].concat())
    };
    case(
        "take-all-names-of-displays",
        By::Neighbour,
        "the cookie of a desktop to come",
        attempt,
        control,
    )
}

/// A folder for the sockets of X servers that a user made, where there was none.
fn made_before() -> Case {
    const LISTENS: At = ("agent3", BOB, &["finds", "bob", "stat", "-c", "%U", "/tmp/.X11-unix"]);
    let attempt = |stage: &Stage<'_>| {
        stage.sh("agent3", "rm -rf /tmp/.X11-unix")?;
        stage.sh_as("agent3", BOB, "mkdir -m 1777 /tmp/.X11-unix")?;
        stage.cluster.restart_daemon("agent3", "vsmagent")?;
        wait_for("the agent to have looked", WAIT, || {
            let owner = stage.sh("agent3", "stat -c %U /tmp/.X11-unix 2>/dev/null || echo none");
            let owner = owner.map_err(|error| format!("{error:#}"))?;
            let began = stage.cluster.daemon_log("agent3", "vsmagent").contains("X11-unix");
            if owner == ROOT || began { Ok(()) } else { Err(owner) }
        })?;
        tool(stage, LISTENS.0, LISTENS.1, LISTENS.2)
    };
    let control = |stage: &Stage<'_>| {
        stage.sh("agent3", "rm -rf /tmp/.X11-unix")?;
        stage.sh_as("agent3", BOB, "mkdir -m 1777 /tmp/.X11-unix")?;
        tool(stage, LISTENS.0, LISTENS.1, LISTENS.2)
    };
    case(
        "make-the-folder-of-x-sockets",
        By::Neighbour,
        "all displays of the host",
        attempt,
        control,
    )
}

/// X servers that let everybody in, if an administrator's arguments could have that.
fn open_display() -> Case {
    const ARGUMENTS: &str = "-ac -listen tcp";
    let set = |stage: &Stage<'_>, arguments: &str| -> Result<()> {
        let read = || {
            stage.cluster.daemon_log(HOST, "vsmagent").matches("configuration read again").count()
        };
        let before = read();
        stage.sh(HOST, &format!("vsm-config '/vsmagent/xserver_args={arguments}'"))?;
        stage.cluster.kill_daemon(HOST, "vsmagent", nix::sys::signal::Signal::SIGHUP as i32)?;
        wait_for("the agent to have read it", WAIT, || {
            if read() > before { Ok(()) } else { Err("not yet".to_owned()) }
        })
    };
    let look = |stage: &Stage<'_>, number: &str| tool(stage, HOST, BOB, &["display", number, "-"]);
    let attempt = move |stage: &Stage<'_>| {
        set(stage, ARGUMENTS)?;
        let seen = fresh(stage, USER).and_then(|desktop| look(stage, &desktop.display.to_string()));
        set(stage, "")?;
        seen
    };
    let control = move |stage: &Stage<'_>| {
        let words = [
            "timeout",
            "30",
            "Xtigervnc",
            ":1900",
            "-ac",
            "-rfbport",
            "-1",
            "-rfbunixpath",
            "/tmp/rfb-1900",
        ];
        let _server = Staying::silent(stage.cluster.command(
            HOST,
            USER,
            &[&words[..], &["-SecurityTypes", "None"]].concat(),
        )?)?;
        let seen = wait_for("the display", WAIT, || match look(stage, "1900") {
            Ok(Seen::Won(said)) => Ok(said),
            other => Err(format!("{other:?}")),
        });
        stage.sh(HOST, "pkill -f '^Xtigervnc :1900'; true")?;
        Ok(Seen::Won(seen?))
    };
    case(
        "open-displays-by-an-argument",
        By::Administrator,
        "all desktops of a host",
        attempt,
        control,
    )
}

pub(super) fn all() -> Vec<Case> {
    vec![
        preloaded("preload-by-pam", HOST, ".pam_environment", "LD_PRELOAD=OBJECT"),
        preloaded("audit-by-pam", HOST, ".pam_environment", "LD_AUDIT=OBJECT"),
        preloaded("preload-by-a-start-up-file", "active", ".bashrc", "export LD_PRELOAD=OBJECT"),
        detach(),
        follow(),
        in_the_place(),
        full_queue(),
        locks(),
        names(),
        made_before(),
        open_display(),
    ]
}
