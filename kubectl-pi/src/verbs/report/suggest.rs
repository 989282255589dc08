//! The policy that is suggested: it only records what ServiceAccounts do again and again, where they do it. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use curfew_core::Actor;
use jiff::Timestamp;
use serde_json::json;

use super::tally::{Standing, Touched};
use crate::{output::visible, print::yaml};

/// What is said where nothing is suggested.
pub(super) const NONE: &str =
    "No ServiceAccount started the timers of pods again and again: there is nothing to suggest.";

/// Whose interactions are fewer than this may have come by chance.
const AGAIN: u64 = 3;

/// It applies before the policies of environments, and after those that somebody put above all.
const PRIORITY: i32 = 1000;

/// The most users and the most namespaces that a policy can list.
const MAX_USERS: usize = 256;
const MAX_NAMESPACES: usize = 64;

/// What a ServiceAccount did.
#[derive(Debug, Default)]
struct Habit {
    interactions: u64,
    pods: u64,
    /// Whether it started a timer.
    timed: bool,
    namespaces: BTreeSet<String>,
}

/// The policy, with comments that say why. None where there is nothing to suggest.
pub(super) fn policy<'a>(
    pods: impl Iterator<Item = &'a Touched>,
    since: Timestamp,
) -> Option<String> {
    let mut habits = BTreeMap::<String, Habit>::new();
    for pod in pods {
        let timed = pod.standing() != Standing::Recorded;
        for (user, (interactions, _)) in pod.counts(since, |known| known.interaction.user.clone()) {
            if Actor::of(&user) == Actor::ServiceAccount {
                let habit = habits.entry(user).or_default();
                habit.interactions += interactions;
                habit.pods += 1;
                habit.timed |= timed;
                habit.namespaces.insert(pod.namespace.clone());
            }
        }
    }
    let mut again: Vec<_> = habits
        .into_iter()
        .filter(|(_, habit)| habit.timed && habit.interactions >= AGAIN)
        .collect();
    if again.is_empty() {
        return None;
    }
    again.sort_by_key(|(_, habit)| std::cmp::Reverse(habit.interactions));
    again.truncate(MAX_USERS);
    let mut text = "# kubectl pi report --suggest: the ServiceAccounts that started timers again and again.\n\
                    # Interactions of these users are only recorded then. Whoever may use such an account is \
                    one of them.\n"
        .to_owned();
    for (user, habit) in &again {
        text += &format!(
            "# {}: {} interactions with {} pods, in {}\n",
            visible(user),
            habit.interactions,
            habit.pods,
            list(&habit.namespaces)
        );
    }
    let namespaces: BTreeSet<&String> = again
        .iter()
        .flat_map(|(_, habit)| &habit.namespaces)
        .collect();
    let users: Vec<&String> = again.iter().map(|(user, _)| user).collect();
    let mut spec = json!({"priority": PRIORITY, "users": users, "action": "Record"});
    if namespaces.len() <= MAX_NAMESPACES {
        spec["namespaceSelector"] = json!({"matchExpressions": [{
            "key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces,
        }]});
    } else {
        text += "# These are too many namespaces to be listed, so it applies to all.\n";
    }
    text += &yaml::render(&json!({
        "apiVersion": "curfew.dev/v1alpha1",
        "kind": "InteractionPolicy",
        "metadata": {"name": "suggested-service-accounts"},
        "spec": spec,
    }));
    Some(text)
}

/// A few of them, and how many more.
fn list(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
