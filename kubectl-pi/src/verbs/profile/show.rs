//! What is shown of profiles.

use curfew_core::{
    behaviour::{
        ActorCount, Criterion, Decision, Features, Learned, MAX_COUNTED, ProfileStatus,
        SeenInteraction, Stage, Thresholds, assess_left, decide,
    },
    duration::relative,
    left::{self, LeftHow, Leftover},
};
use curfew_crd::InteractionProfile;
use futures::join;
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    cli::{
        Target,
        profile::{ExplainProfile, ListProfiles, OneProfile},
    },
    cluster::{connection::Connection, profile},
    output,
    print::{page::Page, table::plain},
};

/// How many profiles are read by one call: a large one has more than a megabyte.
const PAGE: u32 = 16;

/// Lists the profiles.
pub(super) async fn list(target: &Target, args: &ListProfiles) -> anyhow::Result<bool> {
    let Connection { client, namespace } = Connection::open(target)?;
    let profiles: Api<InteractionProfile> = match args.all_namespaces {
        true => Api::all(client),
        false => Api::namespaced(client, &namespace),
    };
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = profiles.list(&params).await?;
        rows.extend(page.items.iter().map(|profile| row(profile, now)));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            break;
        }
    }
    if rows.is_empty() {
        output::note("No profiles found. A policy with learn: true makes them.");
        return Ok(true);
    }
    let heads = [
        "NAMESPACE",
        "PROFILE",
        "STAGE",
        "SAMPLES",
        "SINCE",
        "LEARNED",
        "ALLOWED",
        "IRREGULAR",
        "LAST-IRREGULAR",
    ];
    output::print(&plain(heads, rows.into_iter()))?;
    Ok(true)
}

fn row(profile: &InteractionProfile, now: Timestamp) -> [String; 9] {
    let nothing = ProfileStatus::default();
    let status = profile.status.as_ref().unwrap_or(&nothing);
    let ago = |time: Option<Timestamp>| time.map_or_else(String::new, |time| relative(time, now));
    let last = status.last_irregular.as_ref().map(|last| last.time);
    [
        profile.namespace().unwrap_or_default(),
        profile.name_any(),
        status.stage.as_str().to_owned(),
        status.samples.to_string(),
        ago(status.since),
        status.learned.len().to_string(),
        profile.spec.0.allowed.len().to_string(),
        status.irregular.to_string(),
        ago(last),
    ]
}

/// Shows one profile.
pub(super) async fn show(target: &Target, args: &OneProfile) -> anyhow::Result<bool> {
    let found = read(target, args).await?;
    output::print(&shown(&found, Timestamp::now()))?;
    Ok(true)
}

async fn read(target: &Target, args: &OneProfile) -> anyhow::Result<InteractionProfile> {
    let Connection { client, namespace } = Connection::open(target)?;
    profile::get(&client, &namespace, &profile::object_name(&args.profile)).await
}

fn shown(profile: &InteractionProfile, now: Timestamp) -> String {
    let status = profile.status.clone().unwrap_or_default();
    let at = |time: Timestamp| format!("{time} ({})", relative(time, now));
    let mut page = Page::default();
    page.line("Name", &profile.name_any());
    page.line("Namespace", &profile.namespace().unwrap_or_default());
    let said = match profile.spec.0.stage {
        Some(_) => " (set by the spec)",
        None if status.stage == Stage::Learning => ": not enough is known to say what is irregular",
        None => "",
    };
    page.line("Stage", &format!("{}{said}", status.stage.as_str()));
    let machines = status.samples.saturating_sub(status.people);
    page.line(
        "Samples",
        &format!(
            "{} by people, {machines} by ServiceAccounts and nodes",
            status.people
        ),
    );
    page.maybe("Since", status.since.map(at).as_deref());
    if status.dropped > 0 {
        page.line(
            "Dropped",
            &format!("{} criteria for which there was no room", status.dropped),
        );
    }
    page.line("Irregular", &status.irregular.to_string());
    if let Some(last) = &status.last_irregular {
        let text = format!("{}, {}: {}", last.user, at(last.time), last.reason);
        page.line("Last Irregular", &text);
    }
    for period in &status.distrusted {
        let text = format!(
            "nothing that was seen first from {} to {}",
            period.from, period.until
        );
        page.line("Not Trusted", &text);
    }
    if let Some(told) = status.accepted().filter(|told| told.status != "True") {
        page.line("But", &format!("the profile is not used: {}", told.message));
    }
    let allowed = &profile.spec.0.allowed;
    let lines = allowed.iter().map(|criterion| [criterion.to_string()]);
    section(
        &mut page,
        "Allowed",
        plain(["CRITERION"], lines),
        allowed.is_empty(),
    );
    let table = learned_table(newest(&status.learned), allowed, now);
    section(&mut page, "Learned", table, status.learned.is_empty());
    page.0
}

fn section(page: &mut Page, title: &str, table: String, is_empty: bool) {
    match is_empty {
        true => page.section(title, Err("<none>")),
        false => page.section(title, Ok(&table)),
    }
}

/// The newest first: who teaches a profile one thing a day stands at the top.
fn newest(learned: &[Learned]) -> Vec<&Learned> {
    let mut newest: Vec<_> = learned.iter().collect();
    newest.sort_by_key(|learned| std::cmp::Reverse(learned.sighting.first_seen));
    newest
}

fn learned_table(learned: Vec<&Learned>, allowed: &[Criterion], now: Timestamp) -> String {
    let heads = [
        "CRITERION",
        "FIRST-SEEN",
        "LAST-SEEN",
        "SAMPLES",
        "USERS",
        "ALLOWED",
    ];
    let lines = learned.into_iter().map(|learned| {
        let sighting = &learned.sighting;
        let is_allowed = is_allowed(&learned.criterion, allowed);
        [
            learned.criterion.to_string(),
            relative(sighting.first_seen, now),
            relative(sighting.last_seen, now),
            sighting.samples.to_string(),
            users(&sighting.actors),
            if is_allowed { "yes" } else { "no" }.to_owned(),
        ]
    });
    plain(heads, lines)
}

fn is_allowed(learned: &Criterion, allowed: &[Criterion]) -> bool {
    allowed.iter().any(|allowed| allowed.names_learned(learned))
}

fn users(actors: &ActorCount) -> String {
    match actors.count() {
        MAX_COUNTED.. => format!("{MAX_COUNTED} or more"),
        count => count.to_string(),
    }
}

/// Shows where what was learned and what is allowed differ.
pub(super) async fn diff(target: &Target, args: &OneProfile) -> anyhow::Result<bool> {
    let found = read(target, args).await?;
    output::print(&difference(&found, Timestamp::now()))?;
    Ok(true)
}

fn difference(profile: &InteractionProfile, now: Timestamp) -> String {
    let status = profile.status.clone().unwrap_or_default();
    let allowed = &profile.spec.0.allowed;
    let mut only_learned = newest(&status.learned);
    only_learned.retain(|learned| !is_allowed(&learned.criterion, allowed));
    let only_allowed: Vec<_> = allowed
        .iter()
        .filter(|allowed| {
            let mut learned = status.learned.iter();
            !learned.any(|learned| allowed.names_learned(&learned.criterion))
        })
        .collect();
    let mut page = Page::default();
    let is_empty = only_learned.is_empty();
    let table = learned_table(only_learned, &[], now);
    section(&mut page, "Learned, And Not Allowed", table, is_empty);
    let lines = only_allowed.iter().map(|criterion| [criterion.to_string()]);
    let table = plain(["CRITERION"], lines);
    section(
        &mut page,
        "Allowed, And Not Learned",
        table,
        only_allowed.is_empty(),
    );
    page.0.trim_start().to_owned()
}

/// Says what an interaction would be.
pub(super) async fn explain(target: &Target, args: &ExplainProfile) -> anyhow::Result<bool> {
    let connection = Connection::open(target)?;
    let name = profile::object_name(&args.which.profile);
    let (found, user) = join!(
        profile::get(&connection.client, &connection.namespace, &name),
        async {
            Ok::<_, anyhow::Error>(match &args.by {
                Some(user) => (user.clone(), args.groups.clone()),
                None => {
                    let user = connection.user().await?;
                    (user.name, user.groups)
                }
            })
        }
    );
    let (user, groups) = user?;
    output::print(&explained(&found?, &user, &groups, args, Timestamp::now())?)?;
    Ok(true)
}

fn explained(
    profile: &InteractionProfile,
    user: &str,
    groups: &[String],
    args: &ExplainProfile,
    now: Timestamp,
) -> anyhow::Result<String> {
    let name = profile.name_any();
    let features = Features::of(&SeenInteraction {
        user,
        groups,
        kind: args.kind,
        container: args.container.as_deref(),
        argv: &args.command,
        tty: args.tty,
        stdin: args.stdin,
        time: now,
        rate: 1,
    });
    let thresholds = Thresholds {
        days: args.minimum_days,
        samples: args.minimum_samples,
        ..Thresholds::default()
    };
    let index = profile::index(profile, now)?;
    let workload = profile::workload(&name);
    let decision = decide(&features, &index, &thresholds, now, &workload);
    let mut page = Page::default();
    page.line("Profile", &name);
    page.line("User", user);
    page.line("Interaction", args.kind.as_str());
    page.line("Behaviour", word(&decision));
    if let Decision::NotEnough { .. } = decision {
        page.line("Reason", &decision.to_string());
    }
    let left = left(args);
    if !left.is_empty() {
        let features = features.leaving(left);
        let decision = assess_left(&features, &index, now, &workload).decide(&thresholds);
        let text = format!("{}: {}", left::text(&features.left), word(&decision));
        page.line("Left Behind", &text);
        section_of(&mut page, "Left Behind", &decision);
    }
    section_of(&mut page, "", &decision);
    Ok(page.0)
}

/// What is asked about to be left behind.
fn left(args: &ExplainProfile) -> Vec<Leftover> {
    let all = [
        (LeftHow::Running, &args.left_running),
        (LeftHow::Dropped, &args.dropped),
    ];
    let all = all.into_iter().flat_map(|(how, programs)| {
        let programs = programs.iter();
        programs.filter_map(move |program| Leftover::new(how, program))
    });
    left::bounded(all.collect())
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Usual { .. } => "usual",
        Decision::Irregular { .. } => "irregular",
        Decision::NotEnough { .. } => "neither usual nor irregular",
    }
}

/// Says why, where there is something to say.
fn section_of(page: &mut Page, of: &str, decision: &Decision) {
    let (reasons, title) = match decision {
        Decision::Usual { noticed } => (noticed.as_slice(), "New, And Tolerated"),
        Decision::Irregular { reasons } => (reasons.as_slice(), "Reasons"),
        Decision::NotEnough { .. } => return,
    };
    if reasons.is_empty() {
        return;
    }
    let lines = reasons.iter().map(|reason| {
        let weight = format!("{:?}", reason.weight).to_lowercase();
        [
            reason.novelty.as_str().to_owned(),
            weight,
            reason.to_string(),
        ]
    });
    let title = match of {
        "" => title.to_owned(),
        of => format!("{of}, {title}"),
    };
    page.section(&title, Ok(&plain(["WHAT", "WEIGHT", "REASON"], lines)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Cli, print::row::tests::at};
    use clap::Parser;
    use serde_json::json;

    fn profile() -> InteractionProfile {
        let learned = |criterion: serde_json::Value, first: &str, actors: &str| {
            json!({"criterion": criterion, "firstSeen": first, "lastSeen": "2026-03-01T11:00:00Z",
                "samples": 40, "actors": actors})
        };
        let old = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({
            "apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile",
            "metadata": {"name": "deployment.web", "namespace": "shop"},
            "spec": {"allowed": [{"users": ["alice"]}, {"programs": ["psql"]}]},
            "status": {
                "stage": "Normal", "samples": 40, "people": 40, "since": old, "irregular": 1,
                "lastIrregular": {"time": "2026-03-01T11:00:00Z", "user": "mallory", "reason": "x\u{1b}y"},
                "learned": [
                    learned(json!({"users": ["alice"]}), old, "1:000001"),
                    learned(json!({"programs": ["cat"], "actors": ["User"]}), "2026-02-28T12:00:00Z", "1:000001"),
                    learned(json!({"kinds": ["exec"], "tty": false, "stdin": false, "actors": ["User"]}), old,
                        "8:000001000002000003000004000005000006000007000008"),
                    learned(json!({"containers": ["app"]}), old, "0:"),
                ],
            },
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        at("2026-03-01T12:00:00Z")
    }

    #[test]
    fn a_profile_shows_the_newest_first_and_by_how_many() {
        let page = shown(&profile(), now());
        assert!(
            page.contains("mallory") && !page.contains('\u{1b}'),
            "{page}"
        );
        let learned = page.split("Learned:").nth(1).unwrap();
        let lines: Vec<_> = learned.lines().filter(|line| !line.is_empty()).collect();
        assert!(
            lines[1].contains("programs cat") && lines[1].ends_with("no"),
            "{page}"
        );
        let of = |text: &str| *lines.iter().find(|line| line.contains(text)).unwrap();
        assert!(
            of("users alice").contains(" 40") && of("users alice").ends_with("yes"),
            "{page}"
        );
        assert!(of("kinds exec").contains("8 or more"), "{page}");
    }

    #[test]
    fn learned_and_allowed_are_compared() {
        let page = difference(&profile(), now());
        let (learned, allowed) = page.split_once("Allowed, And Not Learned:").unwrap();
        assert!(
            learned.contains("programs cat") && !learned.contains("alice"),
            "{page}"
        );
        assert!(
            allowed.contains("psql") && !allowed.contains("alice"),
            "{page}"
        );
    }

    fn explained_line(line: &str) -> String {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let crate::cli::Verb::Profile(crate::cli::profile::Profile {
            verb: crate::cli::profile::ProfileVerb::Explain(args),
        }) = cli.verb
        else {
            panic!("{line}")
        };
        let user = args.by.clone().unwrap();
        explained(&profile(), &user, &[], &args, now()).unwrap()
    }

    #[test]
    fn an_interaction_that_did_not_happen_is_judged() {
        let ask =
            |rest: &str| explained_line(&format!("pi profile explain deploy/web -c app {rest}"));
        assert!(ask("--by alice -- cat").contains("Behaviour:          usual"));
        let page = ask("--by mallory -- nc x");
        assert!(page.contains("Behaviour:          irregular"), "{page}");
        assert!(
            page.contains("mallory was never seen in deployment web"),
            "{page}"
        );
        let page = ask("--by mallory --minimum-samples 41 -- nc x");
        assert!(page.contains("40 of 41 interactions"), "{page}");
        assert!(!page.contains("Left Behind"), "{page}");
        let page = ask("--by alice --left-running sleep --dropped /tmp/x -- cat");
        assert!(page.contains("Behaviour:          usual"), "{page}");
        assert!(
            page.contains("Left Behind:        running sleep, dropped /tmp/x: irregular"),
            "{page}"
        );
        assert!(
            page.contains("no session of a person ever dropped `/tmp/x` there"),
            "{page}"
        );
    }
}
