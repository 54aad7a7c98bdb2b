//! What the helper that is root is asked by a broker, which may be somebody else's by now.

use std::path::Path;

use vsm_root::message::{Act, Answer};

pub(crate) fn run(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Answer>(bytes) {
        let again = serde_json::to_vec(&answer).expect("it was read");
        assert_eq!(serde_json::from_slice::<Answer>(&again).ok(), Some(answer));
    }
    let Ok(act) = Act::parse(bytes) else { return };
    if let Act::Hook(hook) = &act {
        // Whatever folder it is looked for in, it is a file of that, and the shell's and the loader's variables stay.
        let path = Path::new("/dir").join(&hook.name);
        assert_eq!(path.parent(), Some(Path::new("/dir")), "{hook:?}");
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(hook.name.as_str()));
        for (name, value) in &hook.variables {
            assert!(name.starts_with("VSM_"), "{name:?}");
            assert!(!value.contains(['\0', '\n']), "{name}={value:?}");
        }
    }
    let line = act.clone().line().expect("it was read");
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
    assert_eq!(Act::parse(&line), Ok(act));
}
