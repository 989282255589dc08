//! The content of the Secret: the CA that signs and, while the CA is being replaced, the next or the previous one.
//! Also says when the content must change. Nothing here does any I/O.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use curfew_runtime::tls::Trust;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{ExchangeStep, IdentityError, Lifetimes, authority::Authority, paths::Paths};
use crate::names::labels;

/// The Secret of the CA.
pub const NAME: &str = "curfew-webhook-ca";
/// Who wants the CA to be exchanged now sets this annotation, to whatever value.
pub const ROTATE: &str = "curfew.dev/rotate";
/// Who wants the path of the API servers alone to be exchanged now sets this one.
pub const ROTATE_PATH: &str = "curfew.dev/rotate-path";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.crt";

/// The CAs of an installation.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds private keys")]
pub struct Authorities {
    /// The one that issues.
    pub current: Arc<Authority>,
    next: Option<Arc<Authority>>,
    /// The certificate of the one before, in PEM.
    previous: Option<String>,
    /// Under which paths API servers may ask.
    pub paths: Paths,
    /// Whether those stand in the Secret. An earlier release leaves them out.
    pub has_stored_paths: bool,
}

impl Authorities {
    /// A new CA alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(life: Duration) -> Result<Self, IdentityError> {
        Ok(Self {
            current: Arc::new(Authority::new(life)?),
            next: None,
            previous: None,
            paths: Paths::new(SystemTime::now())?,
            has_stored_paths: true,
        })
    }

    /// Those that stand in a Secret.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn read(secret: &Secret, namespace: &str) -> Result<Self, IdentityError> {
        let invalid = |problem: String| IdentityError::Invalid {
            namespace: namespace.to_owned(),
            problem,
        };
        let text = |key: &str| {
            let data = secret.data.as_ref()?.get(key)?;
            String::from_utf8(data.0.clone()).ok()
        };
        let authority = |[certificate, key]: [&str; 2]| {
            let [Some(one), Some(two)] = [certificate, key].map(text) else {
                return Err(invalid(format!(
                    "it contains no text under {certificate} or {key}"
                )));
            };
            Authority::from_pem(one, &two).map_err(|flaw| {
                let field = if flaw.of_key { key } else { certificate };
                invalid(format!("{field}: {}", flaw.problem))
            })
        };
        let current = authority([CERTIFICATE, KEY])?;
        let next = match text(NEXT_CERTIFICATE) {
            Some(_) => Some(Arc::new(authority([NEXT_CERTIFICATE, NEXT_KEY])?)),
            None => None,
        };
        let previous = text(PREVIOUS);
        if let Some(previous) = &previous {
            Trust::from_pem(previous).map_err(|error| invalid(format!("{PREVIOUS}: {error}")))?;
        }
        let paths = secret.data.as_ref().and_then(Paths::read);
        Ok(Self {
            current: Arc::new(current),
            next,
            previous,
            has_stored_paths: paths.is_some(),
            paths: match paths {
                Some(paths) => paths,
                None => Paths::after_none(SystemTime::now())?,
            },
        })
    }

    /// The Secret that holds them; all else of it is as it was before.
    pub fn write(&self, before: Option<Secret>) -> Secret {
        let mut secret = before.unwrap_or_else(empty);
        let mut data = BTreeMap::from([
            (CERTIFICATE, self.current.certificate.clone()),
            (KEY, self.current.key()),
        ]);
        if let Some(next) = &self.next {
            data.insert(NEXT_CERTIFICATE, next.certificate.clone());
            data.insert(NEXT_KEY, next.key());
        }
        if let Some(previous) = &self.previous {
            data.insert(PREVIOUS, previous.clone());
        }
        data.extend(self.paths.write());
        let data = data.into_iter();
        secret.data = Some(
            data.map(|(key, text)| (key.to_owned(), ByteString(text.into())))
                .collect(),
        );
        secret
    }

    /// All that are trusted, in PEM, first the one that issues.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let others = [next, self.previous.as_deref()];
        let all = [Some(self.current.certificate.as_str())]
            .into_iter()
            .chain(others);
        all.flatten()
            .map(|pem| format!("{}\n", pem.trim_end()))
            .collect()
    }

    /// Whether the CAs of these are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.bundle() == other.bundle()
    }

    /// What is to be done now. `asked` tells whether somebody wants the CA to be exchanged.
    pub fn step(&self, lifetimes: &Lifetimes, asked: bool, now: SystemTime) -> ExchangeStep {
        let (due, step) = if let Some(next) = &self.next {
            (next.made + lifetimes.overlap, ExchangeStep::Switch)
        } else if self.previous.is_some() {
            // The last certificate of the former was issued right before this one took over.
            let switched = self.current.made + lifetimes.overlap;
            (
                switched + lifetimes.overlap + lifetimes.certificate,
                ExchangeStep::Retire,
            )
        } else if asked {
            (now, ExchangeStep::Prepare)
        } else {
            let made = self.current.made;
            let life = self.current.expiry.duration_since(made).unwrap_or_default();
            (made + life * 2 / 3, ExchangeStep::Prepare)
        };
        match due <= now {
            true => step,
            false => ExchangeStep::Wait(due),
        }
    }

    /// What is to be done about the paths now. `asked` tells whether somebody wants them to be exchanged.
    pub fn path_step(&self, lifetimes: &Lifetimes, asked: bool, now: SystemTime) -> ExchangeStep {
        self.paths
            .step(lifetimes.path, lifetimes.overlap, asked, now)
    }

    /// Whether the CA or the path is being exchanged.
    pub fn is_in_exchange(&self) -> bool {
        self.next.is_some() || self.previous.is_some() || self.paths.is_in_exchange()
    }

    /// How they are after that step.
    ///
    /// # Errors
    /// When a CA cannot be made.
    pub fn after(&self, step: ExchangeStep, lifetimes: &Lifetimes) -> Result<Self, IdentityError> {
        let mut after = self.clone();
        match (step, after.next.take()) {
            (ExchangeStep::Prepare, _) => {
                after.next = Some(Arc::new(Authority::new(lifetimes.authority)?));
                // Whoever has the key of the former may know the path, too.
                after.paths = self.paths.after(ExchangeStep::Prepare, SystemTime::now())?;
            }
            (ExchangeStep::Switch, Some(next)) => {
                after.previous = Some(self.current.certificate.clone());
                after.current = next;
            }
            (ExchangeStep::Retire, next) => (after.previous, after.next) = (None, next),
            (ExchangeStep::Switch | ExchangeStep::Wait(_), next) => after.next = next,
        }
        Ok(after)
    }

    /// The certificate of the next one, which has to be trusted everywhere before it issues.
    pub fn next(&self) -> Option<&str> {
        self.next.as_ref().map(|next| next.certificate.trim_end())
    }
}

/// Whether somebody wants what this annotation stands for to be exchanged.
pub fn is_asked_for(secret: &Secret, annotation: &str) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(annotation))
}

fn empty() -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(labels()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    }
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
