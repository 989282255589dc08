//! The paths under which the webhook is asked, and the Secret that says which are good.

use std::time::{Duration, SystemTime};

use curfew_core::wrapper;
use curfew_webhook::{identity::paths::Paths, names::INTERACTION_PATH};

use crate::same;

/// How many digits a token has.
const DIGITS: usize = 32;

/// A path that somebody asks under, and behind a line feed the data of the Secret as JSON. The words of the
/// path serve as a command, too.
pub fn path(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let Ok(given) = std::str::from_utf8(&bytes[..end]) else {
        return;
    };
    command(given);
    let Ok(data) = serde_json::from_slice(&bytes[end + 1..]) else {
        return;
    };
    let Some(paths) = Paths::read(&data) else {
        return;
    };
    let told = paths.told(INTERACTION_PATH);
    assert!(paths.accept(INTERACTION_PATH, &told), "{told}");
    if paths.accept(INTERACTION_PATH, given) {
        let token = given.strip_prefix(INTERACTION_PATH);
        let token = token.map(|token| token.strip_prefix('/').unwrap_or(token));
        let length = token.map(str::len);
        assert!(matches!(length, Some(0 | DIGITS)), "{given}");
    }
    let minute = Duration::from_secs(60);
    paths.step(
        minute,
        minute,
        false,
        SystemTime::UNIX_EPOCH + 1000 * minute,
    );
    let written = paths.write();
    let written: serde_json::Map<_, _> = written
        .map(|(key, text)| (key.to_owned(), text.into()))
        .collect();
    assert!(written.len() >= 2, "{written:?}");
}

fn command(text: &str) {
    let argv: Vec<_> = text.split(' ').map(str::to_owned).collect();
    let (request, command) = wrapper::split(&argv);
    assert!(argv.ends_with(command) && !command.is_empty());
    same!(argv.len() - command.len(), request.map_or(0, |_| 2));
}
