//! The paths that API servers call. Each ends in a secret token.
//!
//! If a call to the webhook fails, the API server shows the whole URL to the user. So the token is replaced often,
//! in three steps like the CA. First, all replicas accept the next token. Then API servers get it, and the previous
//! token is still accepted. Then the previous token is no longer accepted. Nothing here does any I/O.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use k8s_openapi::{ByteString, api::admissionregistration::v1::ValidatingWebhookConfiguration};
use rustls::crypto::ring;
use subtle::ConstantTimeEq;

use super::{ExchangeStep, IdentityError};
use crate::names::WEBHOOKS;

const CURRENT: &str = "path.token";
const NEXT: &str = "path.next";
const PREVIOUS: &str = "path.previous";
const CHANGED: &str = "path.changed";

/// How many random bytes are in a token.
const BYTES: usize = 16;

/// The end of a path: hexadecimal digits, because the API server allows little else. It is empty where an
/// earlier release, which knows no tokens, told the API server its path.
#[derive(Clone, PartialEq, Eq)]
struct Token(String);

/// The tokens of an installation.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "it holds secrets")]
pub struct Paths {
    /// The one that API servers are told.
    current: Token,
    next: Option<Token>,
    previous: Option<Token>,
    /// When the last step was taken.
    changed: SystemTime,
}

impl Token {
    fn new() -> Result<Self, IdentityError> {
        let mut bytes = [0; BYTES];
        let random = ring::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| IdentityError::Random)?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    fn read(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = text.is_empty() || (text.len() == BYTES * 2 && text.bytes().all(hex));
        fits.then(|| Self(text.to_owned()))
    }

    /// Takes as long whatever is given, so that nobody learns a token digit by digit.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl Paths {
    /// A new one alone.
    ///
    /// # Errors
    /// When no random bytes can be had.
    pub fn new(now: SystemTime) -> Result<Self, IdentityError> {
        Ok(Self {
            current: Token::new()?,
            next: None,
            previous: None,
            changed: whole(now),
        })
    }

    /// Those of an installation whose API servers were told a path without a token.
    ///
    /// # Errors
    /// When no random bytes can be had.
    pub fn after_none(now: SystemTime) -> Result<Self, IdentityError> {
        Ok(Self {
            current: Token(String::new()),
            next: Some(Token::new()?),
            previous: None,
            changed: whole(now),
        })
    }

    /// Those that stand in the data of a Secret; none where an earlier release wrote it.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |key: &str| std::str::from_utf8(&data.get(key)?.0).ok();
        let token = |key: &str| Token::read(text(key)?);
        let changed = Duration::from_secs(text(CHANGED)?.parse().ok()?);
        Some(Self {
            current: token(CURRENT)?,
            next: token(NEXT),
            previous: token(PREVIOUS),
            changed: SystemTime::UNIX_EPOCH.checked_add(changed)?,
        })
    }

    /// What stands in the Secret.
    pub fn write(&self) -> impl Iterator<Item = (&'static str, String)> {
        let changed = self.changed.duration_since(SystemTime::UNIX_EPOCH);
        let text = |token: &Token| token.0.clone();
        [
            (CURRENT, Some(text(&self.current))),
            (NEXT, self.next.as_ref().map(text)),
            (PREVIOUS, self.previous.as_ref().map(text)),
            (
                CHANGED,
                Some(changed.unwrap_or_default().as_secs().to_string()),
            ),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)))
    }

    /// Whether API servers are told these paths by this configuration, and no others.
    pub fn are_told_by(&self, configuration: &ValidatingWebhookConfiguration) -> bool {
        configuration.webhooks.iter().flatten().all(|webhook| {
            let known = WEBHOOKS.iter().find(|(name, _)| webhook.name == *name);
            let service = webhook.client_config.service.as_ref();
            known.is_none_or(|(_, base)| {
                service.and_then(|service| service.path.as_ref()) == Some(&self.told(base))
            })
        })
    }

    /// The path that API servers are told.
    pub fn told(&self, base: &str) -> String {
        match self.current.0.as_str() {
            "" => base.to_owned(),
            token => format!("{base}/{token}"),
        }
    }

    /// Whether an API server may have been told this path, or will be.
    pub fn accept(&self, base: &str, path: &str) -> bool {
        let given = match path.strip_prefix(base) {
            Some("") => "",
            Some(rest) => match rest.strip_prefix('/') {
                Some(given) if !given.is_empty() => given,
                _ => return false,
            },
            None => return false,
        };
        let all = [
            Some(&self.current),
            self.next.as_ref(),
            self.previous.as_ref(),
        ];
        // Each is compared, whichever it is.
        all.into_iter()
            .flatten()
            .fold(false, |found, token| found | token.is(given))
    }

    /// Whether more than one is accepted.
    pub fn is_in_exchange(&self) -> bool {
        self.next.is_some() || self.previous.is_some()
    }

    /// What is to be done now. `asked` tells whether somebody wants the token to be exchanged.
    pub fn step(
        &self,
        life: Duration,
        overlap: Duration,
        asked: bool,
        now: SystemTime,
    ) -> ExchangeStep {
        // What stands in the Secret may be any time.
        let after = |pause| self.changed.checked_add(pause).unwrap_or(now);
        let (due, step) = if self.next.is_some() {
            (after(overlap), ExchangeStep::Switch)
        } else if self.previous.is_some() {
            (after(overlap), ExchangeStep::Retire)
        } else if asked {
            (now, ExchangeStep::Prepare)
        } else {
            (after(life), ExchangeStep::Prepare)
        };
        // A clock that was far ahead when the last step was taken does not put off the next one for ever.
        let longest = now + life.max(overlap);
        match due <= now || self.changed > longest {
            true => step,
            false => ExchangeStep::Wait(due),
        }
    }

    /// How they are after that step.
    ///
    /// # Errors
    /// When no random bytes can be had.
    pub fn after(&self, step: ExchangeStep, now: SystemTime) -> Result<Self, IdentityError> {
        let mut after = self.clone();
        match (step, after.next.take()) {
            (ExchangeStep::Prepare, None) => after.next = Some(Token::new()?),
            (ExchangeStep::Switch, Some(next)) => {
                after.previous = Some(std::mem::replace(&mut after.current, next));
            }
            (ExchangeStep::Retire, next) => (after.previous, after.next) = (None, next),
            // Somebody else was faster.
            (_, _) => return Ok(self.clone()),
        }
        after.changed = whole(now);
        Ok(after)
    }
}

/// The time in whole seconds, as it is stored.
fn whole(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/admit/interaction";
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const OVERLAP: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn stored(paths: &Paths) -> Paths {
        let data = paths
            .write()
            .map(|(key, text)| (key.to_owned(), ByteString(text.into())));
        Paths::read(&data.collect()).unwrap()
    }

    #[test]
    fn a_token_is_hexadecimal_and_another_each_time() {
        let [one, two] = [Paths::new(at(0)).unwrap(), Paths::new(at(0)).unwrap()];
        let token = one.told(BASE);
        let token = token.strip_prefix("/admit/interaction/").unwrap();
        assert_eq!(token.len(), 32);
        assert!(curfew_core::names::is_label(token));
        assert_ne!(one.told(BASE), two.told(BASE));
    }

    #[test]
    fn every_path_that_was_or_will_be_told_is_accepted_and_no_other() {
        let first = Paths::new(at(0)).unwrap();
        let prepared = first.after(ExchangeStep::Prepare, at(1)).unwrap();
        let switched = prepared.after(ExchangeStep::Switch, at(2)).unwrap();
        let retired = switched.after(ExchangeStep::Retire, at(3)).unwrap();
        let (old, new) = (first.told(BASE), switched.told(BASE));
        assert_eq!(prepared.told(BASE), old);
        assert_eq!(retired.told(BASE), new);
        for (paths, takes_old, takes_new) in [
            (&first, true, false),
            (&prepared, true, true),
            (&switched, true, true),
            (&retired, false, true),
        ] {
            let again = stored(paths);
            assert!(again == *paths);
            assert_eq!(again.accept(BASE, &old), takes_old);
            assert_eq!(again.accept(BASE, &new), takes_new);
            for wrong in [
                BASE.to_owned(),
                format!("{BASE}/"),
                format!("{new}/"),
                format!("{new}0"),
                new[..new.len() - 1].to_owned(),
                new.to_uppercase(),
                format!("{BASE}/{}", "0".repeat(32)),
                new.replace("interaction", "eviction"),
                "/".to_owned(),
                String::new(),
            ] {
                assert!(!again.accept(BASE, &wrong), "{wrong}");
            }
        }
    }

    #[test]
    fn the_path_of_an_earlier_release_is_good_until_it_was_exchanged() {
        let upgraded = stored(&Paths::after_none(at(0)).unwrap());
        assert_eq!(upgraded.told(BASE), BASE);
        assert!(upgraded.accept(BASE, BASE));
        assert_eq!(
            upgraded.step(DAY, OVERLAP, false, at(300)),
            ExchangeStep::Switch
        );
        let switched = upgraded.after(ExchangeStep::Switch, at(300)).unwrap();
        assert_ne!(switched.told(BASE), BASE);
        assert!(stored(&switched).accept(BASE, BASE));
        let retired = switched.after(ExchangeStep::Retire, at(600)).unwrap();
        assert!(!stored(&retired).accept(BASE, BASE));
        assert!(Paths::read(&BTreeMap::new()).is_none());
    }

    #[test]
    fn steps_follow_each_other_in_time() {
        let first = Paths::new(at(0)).unwrap();
        let step = |paths: &Paths, asked, seconds| paths.step(DAY, OVERLAP, asked, at(seconds));
        assert_eq!(step(&first, false, 0), ExchangeStep::Wait(at(86_400)));
        assert_eq!(step(&first, true, 0), ExchangeStep::Prepare);
        assert_eq!(step(&first, false, 86_400), ExchangeStep::Prepare);
        let prepared = first.after(ExchangeStep::Prepare, at(86_400)).unwrap();
        assert_eq!(
            step(&prepared, true, 86_401),
            ExchangeStep::Wait(at(86_700))
        );
        assert_eq!(step(&prepared, false, 86_700), ExchangeStep::Switch);
        let switched = prepared.after(ExchangeStep::Switch, at(86_700)).unwrap();
        assert_eq!(
            step(&switched, false, 86_701),
            ExchangeStep::Wait(at(87_000))
        );
        assert_eq!(step(&switched, false, 87_000), ExchangeStep::Retire);
        let retired = switched.after(ExchangeStep::Retire, at(87_000)).unwrap();
        assert_eq!(
            step(&retired, false, 87_001),
            ExchangeStep::Wait(at(173_400))
        );
        // Of two replicas that take the same step, the second changes nothing.
        assert!(prepared.after(ExchangeStep::Prepare, at(5)).unwrap() == prepared);
        assert!(switched.after(ExchangeStep::Switch, at(5)).unwrap() == switched);
    }
}
