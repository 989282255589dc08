//! Errors of HTTP clients in words that fit a log line or a denial.
//!
//! The clients' own texts repeat a status in its debugging form, and hide what lies beneath a failed
//! connection.

use std::error::Error;

use curfew_core::text::cut;
use kube::runtime::watcher;

/// The longest text of an error.
const MAX: usize = 300;

/// What went wrong, in one bounded line.
pub fn short(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            cut(&status.message, MAX).into_owned()
        }
        kube::Error::Api(status) => format!("HTTP status {}", status.code),
        // Its own text puts the layer's name before what went wrong.
        kube::Error::Service(error) => causes(error.as_ref()),
        _ => causes(error),
    }
}

/// What went wrong with a watch, in one bounded line.
pub fn watch(error: &watcher::Error) -> String {
    let call = error.source().and_then(|source| source.downcast_ref());
    match (call, error) {
        (Some(call), _) => short(call),
        (None, watcher::Error::WatchError(status)) => cut(&status.message, MAX).into_owned(),
        (None, _) => causes(error),
    }
}

/// An error with what lies beneath it, in one bounded line.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        // Some errors repeat their cause, most do not.
        let cause = inner.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = inner.source();
    }
    cut(&text, MAX).into_owned()
}

/// Whether the API server says that the webhook's own account may not do this, or is none any more.
pub fn unauthorised(error: &kube::Error) -> bool {
    code(error).is_some_and(|code| code == 401 || code == 403)
}

/// The status that the API server answered with, if it answered.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
