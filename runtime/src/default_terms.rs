//! The flags of the terms that hold where no policy says otherwise: of the webhook, and of an agent that records what
//! nobody admitted.

use std::time::Duration;

use clap::{Args, ValueEnum};
use curfew_core::{Enforcement, duration, terms::DefaultTerms};

/// The terms where no policy says otherwise.
#[derive(Debug, Clone, Copy, Args)]
pub struct DefaultTermsArgs {
    /// How long a pod may live after an interaction, if no policy sets it
    #[arg(long = "default-ttl", env = "CURFEW_DEFAULT_TTL", default_value = "10m", value_parser = whole_seconds)]
    pub ttl: Duration,
    /// The maximum by which that may be extended, if no policy sets it
    #[arg(long = "default-max-extension", env = "CURFEW_DEFAULT_MAX_EXTENSION", default_value = "8h",
          value_parser = whole_seconds)]
    pub max_extension: Duration,
    /// The maximum time beyond its deadline for which a pod may be held, if no policy sets it
    #[arg(long = "default-max-hold", env = "CURFEW_DEFAULT_MAX_HOLD", default_value = "24h",
          value_parser = whole_seconds)]
    pub max_hold: Duration,
    /// Whether pods are evicted, if no policy sets it
    #[arg(
        long = "default-enforcement",
        env = "CURFEW_DEFAULT_ENFORCEMENT",
        value_enum,
        default_value = "Enforce"
    )]
    pub enforcement: DefaultEnforcement,
}

impl DefaultTermsArgs {
    /// The terms.
    pub fn terms(self) -> DefaultTerms {
        DefaultTerms {
            enforcement: self.enforcement.into(),
            ttl: self.ttl,
            max_extension: self.max_extension,
            max_hold: self.max_hold,
        }
    }
}

/// Whether pods are evicted, in the words of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DefaultEnforcement {
    /// They are evicted
    #[value(name = "Enforce")]
    Enforce,
    /// Everything else happens, and the API server is only asked whether it would evict them
    #[value(name = "DryRun")]
    DryRun,
}

impl From<DefaultEnforcement> for Enforcement {
    fn from(default: DefaultEnforcement) -> Self {
        match default {
            DefaultEnforcement::Enforce => Enforcement::Enforce,
            DefaultEnforcement::DryRun => Enforcement::DryRun,
        }
    }
}

/// Reads a duration of whole seconds: what stands on pods has no others, and a part of one would be lost in silence.
///
/// # Errors
/// Says what is wrong with the text.
pub fn whole_seconds(text: &str) -> Result<Duration, String> {
    let length = duration::parse(text).map_err(|error| error.to_string())?;
    if length.subsec_nanos() != 0 {
        return Err(format!(
            "{text:?} contains a fraction of a second; use whole seconds"
        ));
    }
    Ok(length)
}
