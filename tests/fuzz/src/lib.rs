//! The bodies of the fuzz targets.
//!
//! Each takes bytes as they could come from outside, reads them as the part does that reads them, and
//! panics when something does not hold that others rely on. `fuzz/` calls them with what libFuzzer
//! thinks of (`make fuzz`, which needs the nightly compiler); the tests here call them with what is kept:
//! real captures, and whatever was a finding once.
#![warn(missing_docs)]

mod answer;
mod certificate;
mod metadata;
mod notice;
mod path;
mod policy;
mod record;
mod review;

use std::path::{Path, PathBuf};

pub use answer::answer;
pub use certificate::certificate;
pub use metadata::metadata;
pub use notice::notice;
pub use path::path;
pub use policy::policy;
pub use record::record;
pub use review::review;

/// A target: its name, what is tried, and where its inputs are.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of the binary in `fuzz/`.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// The most bytes of an input that libFuzzer is to make.
    pub max_len: usize,
    /// A folder of captures that other tests use, too.
    also: Option<&'static str>,
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "review",
        run: review,
        max_len: 16 * 1024,
        also: Some("webhook/tests/reviews"),
    },
    Target {
        name: "notice",
        run: notice,
        max_len: 4 * 1024,
        also: None,
    },
    Target {
        name: "record",
        run: record,
        max_len: 16 * 1024,
        also: None,
    },
    Target {
        name: "metadata",
        run: metadata,
        max_len: 8 * 1024,
        also: None,
    },
    Target {
        name: "policy",
        run: policy,
        max_len: 8 * 1024,
        also: None,
    },
    Target {
        name: "path",
        run: path,
        max_len: 1024,
        also: None,
    },
    Target {
        name: "answer",
        run: answer,
        max_len: 4 * 1024,
        also: None,
    },
    Target {
        name: "certificate",
        run: certificate,
        max_len: 8 * 1024,
        also: None,
    },
];

impl Target {
    /// The folders of inputs that are kept: captures, findings, and what other tests share.
    pub fn folders(&self) -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let own = ["corpus", "regressions"].map(|folder| format!("fuzz/{folder}/{}", self.name));
        let folders = own.into_iter().chain(self.also.map(str::to_owned));
        folders.map(|folder| root.join(folder)).collect()
    }
}

/// Both sides, when one is to be what comes of writing and reading the other.
macro_rules! same {
    ($read:expr, $written:expr) => {
        assert_eq!($read, $written, "what was read again is something else")
    };
}
pub(crate) use same;
