//! A file of the configuration, as an administrator or another program may have written it.

use vsm_config::fuzzing::{is_too_deep, read, written};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match read(text) {
        Ok(config) => config,
        Err(problems) => {
            // YAML has more line ends than most.
            let lines = 1 + text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for (line, problem) in &problems {
                assert!(*line <= lines + 1, "{lines} lines: {problem}");
            }
            return;
        }
    };
    assert!(!is_too_deep(text));
    // Whatever it is: judged, and read by those who would run by it.
    let _ = config.check();
    let _ = (config.subclusters(), config.limits(), config.profiles(), config.draining());
    let text = written(&config.effective_as_written()).expect("what was read can be written");
    let again = read(&text).expect("what was written can be read");
    assert_eq!(again.effective(), config.effective(), "{text}");
    assert!(config.diff(&again).is_empty());
}
