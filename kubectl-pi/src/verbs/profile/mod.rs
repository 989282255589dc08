//! `kubectl pi profile`: what is usual for a workload, as it was learned and as people allowed it.
//!
//! It reads and writes InteractionProfiles with the user's own rights.

mod change;
mod show;

use crate::cli::{
    Target,
    profile::{Profile, ProfileVerb},
};

/// Does what is asked for.
pub(crate) async fn run(target: &Target, args: Profile) -> anyhow::Result<bool> {
    match args.verb {
        ProfileVerb::List(args) => show::list(target, &args).await,
        ProfileVerb::Show(args) => show::show(target, &args).await,
        ProfileVerb::Explain(args) => show::explain(target, &args).await,
        ProfileVerb::Diff(args) => show::diff(target, &args).await,
        ProfileVerb::Adopt(args) => change::adopt(target, &args).await,
        ProfileVerb::Reset(args) => change::reset(target, &args).await,
    }
}
