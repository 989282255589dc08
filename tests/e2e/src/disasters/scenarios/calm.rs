//! Nothing happens: the control of all others.

use super::super::{Scenario, boxed};

/// The control.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "calm",
    what: "nothing (the control)",
    later: 25,
    told: &[],
    strike: |scene| {
        boxed(async {
            scene.touch().await?;
            scene.returned();
            Ok(())
        })
    },
    renews: true,
}];
