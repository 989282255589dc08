//! What the log says of an interaction that was recorded.

use curfew_core::{Exemption, RecordedInteraction};

use crate::recording::RecordOutcome;

/// An interaction that was recorded, in each of its containers.
pub(super) struct RecordedLog {
    pub(super) known: Vec<RecordedInteraction>,
    pub(super) outcome: RecordOutcome,
    pub(super) node: Option<String>,
    pub(super) spo_request: Option<String>,
}

impl RecordedLog {
    /// Logs it once the answer is on its way: whoever reads the log wakes up with each line, and takes the processor
    /// that the answer needs.
    pub(super) fn after_the_answer(self) {
        tokio::spawn(async move { self.write() });
    }

    fn write(&self) {
        for known in &self.known {
            let interaction = &known.interaction;
            tracing::info!(
                event = "interaction",
                id = interaction.request,
                pod = %self.outcome.pod,
                uid = self.outcome.pod.uid,
                node = self.node,
                user = interaction.user,
                kind = interaction.kind.as_str(),
                container = interaction.container,
                recorded = self.outcome.recorded_in.as_ref(),
                without_agent = self.outcome.without_agent,
                policy = known.policy.as_deref(),
                irregular = known.irregular.as_deref(),
                exemption = known.terms.exemption.map(Exemption::as_str),
                spo_request = self.spo_request,
                dry_run = self.outcome.dry_run,
                deadline = self.outcome.deadline.map(|deadline| deadline.to_string()),
            );
        }
    }
}
