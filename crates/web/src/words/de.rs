//! German.

use super::{Words, openid};

pub(super) static WORDS: Words = Words {
    code: "de",
    log_in: "Anmelden",
    name: "Anmeldename",
    next: "Weiter",
    password: "Passwort",
    cancel: "Abbrechen",
    again: "Noch einmal",
    log_out: "Abmelden",
    desktop: "Desktop",
    choose: "Ihre Desktops",
    choose_text: "Sie haben mehrere Desktops. Welchen möchten Sie?",
    open: "Öffnen",
    new_desktop: "Neuer Desktop",
    connected: "anderswo geöffnet",
    disconnected: "wartet auf Sie",
    reference: "Kennung",
    failed: "Das hat nicht geklappt",
    full_screen: "Vollbild",
    sessions: "Desktops",
    connecting: "Ihr Desktop wird geholt …",
    reconnecting: "Die Verbindung ist abgerissen. Ihr Desktop wird wieder geholt …",
    ended: "Ihr Desktop wurde beendet.",
    taken: "Ihr Desktop wurde anderswo geöffnet.",
    dropped: "Die Verbindung zu Ihrem Desktop wurde beendet. Er läuft weiter.",
    no_script: "Ein Desktop im Browser braucht JavaScript. Bitte erlauben Sie es für diese Seite.",
    no_route: "Der Desktop-Dienst ist gerade nicht erreichbar. Bitte versuchen Sie es in einer \
        Minute noch einmal.",
    strange_host: "Der Desktop-Dienst konnte sich nicht ausweisen, deshalb wurden Sie nicht \
        verbunden. Bitte geben Sie Ihrer Administration Bescheid.",
    not_let_in: "Name, Passwort oder Code stimmen nicht, oder Sie dürfen sich hier nicht anmelden.",
    too_late: "Das hat zu lange gedauert, oder das Formular wurde zweimal abgeschickt. Bitte \
        beginnen Sie von vorn.",
    too_often: "Das waren zu viele Versuche. Bitte warten Sie eine Minute.",
    busy: "Gerade melden sich zu viele Leute an. Bitte versuchen Sie es in einer Minute noch einmal.",
    logged_out: "Sie sind nicht mehr angemeldet. Bitte melden Sie sich wieder an.",
    no_key: "Der Rechner Ihres Desktops hat Sie nicht eingelassen. Bitte geben Sie Ihrer \
        Administration Bescheid.",
    foreign: "Das kam von einer anderen Seite. Bitte beginnen Sie hier von vorn.",
    nothing_here: "Unter dieser Adresse ist nichts.",
    openid: openid::DE,
};
