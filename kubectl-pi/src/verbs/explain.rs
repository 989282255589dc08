//! `kubectl pi explain`: what would follow from an interaction with a pod, by which policy, and why.
//!
//! It judges as the webhook does, by the same code, over what the API server tells the user. The
//! webhook's flags it cannot know, and says so where they hold.

mod behaviour;
mod rights;

use std::collections::BTreeMap;

use anyhow::bail;
use curfew_core::{
    Action, Actor, Command, Enforcement, Exemption, Kind, Terms, WhenChanged, WhenUnchanged,
    duration::{self, relative},
    interaction::BYPASS_USER,
    namespaces::{self, Exempt},
    policy::{
        Considered, Length, PodChoice, Policies, Policy, PolicyDecision, PolicyMatch,
        RecordCommand, Spec, Subject,
    },
    terms::DefaultTerms,
};
use curfew_crd::{Attempt, Reading, Stored};
use futures::join;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

use self::{
    behaviour::Behaviour,
    rights::{namespace_unread, policies_unread},
};
use crate::{
    cli::{Explain, Target},
    cluster::{
        access,
        connection::{Connection, User},
        find,
    },
    output,
    print::{
        page::Page,
        row::{eviction_time, is_dry_run},
        table::plain,
    },
};

/// How many policies are named that would be less strict.
const MOST_LAXER: usize = 5;

/// Explains what would follow from the interaction.
pub(crate) async fn run(target: &Target, args: Explain) -> anyhow::Result<bool> {
    if args.kind != Kind::Exec && !args.command.is_empty() {
        bail!(
            "policies only look at the command of an exec: leave it out for --kind={}",
            args.kind
        );
    }
    if args.kind == Kind::Bypass && (args.stdin || args.tty) {
        bail!("whether someone types into a bypass is not known: leave out -i and -t");
    }
    let connection = Connection::open(target)?;
    let Connection { client, namespace } = &connection;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = find::bare(&args.pod);
    let spaces: Api<Namespace> = Api::all(client.clone());
    let (user, pod, space) = join!(
        connection.user(),
        pods.get(name),
        spaces.get_metadata(namespace)
    );
    let (user, pod) = (user?, pod?);
    let space = space.map_err(|error| namespace_unread(error, &user.name, namespace))?;
    let me = user.name.clone();
    let user = match args.kind {
        Kind::Bypass => User {
            name: BYPASS_USER.to_owned(),
            groups: Vec::new(),
        },
        _ => user,
    };
    let now = Timestamp::now();
    let behaviour = behaviour::compare(client, &pod, &user, &args, now).await;
    let question = Question {
        behaviour: &behaviour,
        pod: &pod,
        namespace_labels: space.labels(),
        user: &user,
        args: &args,
    };
    if let Some(why) = namespaces::exempt(namespace, space.labels()) {
        output::print(&question.exempt(why))?;
        return Ok(true);
    }
    let allowed = async { access::allowed(client, args.asks_for(&pod)?).await };
    let (policies, allowed) = join!(policies(client), allowed);
    let book = Book::read(policies.map_err(|error| policies_unread(error, &me))?);
    output::print(&question.answer(&book, allowed, now))?;
    Ok(true)
}

async fn policies(client: &Client) -> kube::Result<Vec<Stored>> {
    let policies: Api<Stored> = Api::all(client.clone());
    find::pages(ListParams::default(), async |params| {
        policies.list(&params).await
    })
    .await
}

/// All policies, and what is to be said of those that cannot be followed as they stand.
#[derive(Default)]
struct Book {
    policies: Policies,
    /// Of policies of which an older version is followed.
    remarks: BTreeMap<String, String>,
    /// Of policies of which nothing is.
    unfit: BTreeMap<String, String>,
}

impl Book {
    fn read(stored: Vec<Stored>) -> Self {
        let mut book = Self::default();
        let mut followed = Vec::new();
        for stored in stored {
            let name = stored.name_any();
            let spec = match stored.reading() {
                Reading::Accepted(spec) => spec,
                Reading::Rejected {
                    why,
                    in_force: Some(old),
                } => {
                    let remark = format!(
                        "generation {} is in force; generation {} cannot be followed: {why}",
                        old.generation,
                        stored.generation()
                    );
                    book.remarks.insert(name.clone(), remark);
                    old.spec
                }
                Reading::Rejected {
                    why,
                    in_force: None,
                } => {
                    book.unfit.insert(name, format!("not in force: {why}"));
                    continue;
                }
            };
            followed.push(Policy { name, spec });
        }
        book.policies = followed.into_iter().collect();
        book
    }

    fn table(&self, considered: &[Considered<'_>]) -> String {
        let followed = considered.iter().map(|Considered { policy, matched }| {
            let remark = self.remarks.get(&policy.name);
            let remark = remark.map(|remark| format!(" ({remark})"));
            [
                policy.name.clone(),
                policy.spec.priority.to_string(),
                format!("{matched}{}", remark.unwrap_or_default()),
            ]
        });
        let unfit = self
            .unfit
            .iter()
            .map(|(name, why)| [name.clone(), String::new(), why.clone()]);
        plain(["POLICY", "PRIORITY", "RESULT"], followed.chain(unfit))
    }
}

/// What is asked, and about what.
struct Question<'a> {
    behaviour: &'a Behaviour,
    pod: &'a Pod,
    namespace_labels: &'a BTreeMap<String, String>,
    user: &'a User,
    args: &'a Explain,
}

impl<'a> Question<'a> {
    /// The interaction as the webhook would see it.
    fn subject(&self) -> Subject<'a> {
        let attempt = Attempt {
            user: &self.user.name,
            groups: &self.user.groups,
            kind: self.args.kind,
            argv: &self.args.command,
            stdin: self.args.stdin,
            tty: self.args.tty,
        };
        let priority = self.pod.spec.as_ref().and_then(|spec| spec.priority);
        Subject {
            behaviour: self.behaviour.as_ref().ok(),
            ..attempt.with(&self.pod.metadata, priority, self.namespace_labels)
        }
    }

    /// Who, how, and with what.
    fn head(&self) -> Page {
        let mut page = Page::default();
        let namespace = self.pod.namespace().unwrap_or_default();
        page.line("Pod", &format!("{namespace}/{}", self.pod.name_any()));
        page.line("User", &self.user.name);
        page.line("Groups", &self.user.groups.join(", "));
        page.line("Actor", Actor::of(&self.user.name).as_str());
        page.line("Workload", self.subject().workload);
        let mut how = self.args.kind.to_string();
        how += match (self.args.stdin, self.args.tty) {
            (true, true) => ", with standard input and a terminal",
            (true, false) => ", with standard input",
            (false, true) => ", with a terminal",
            (false, false) => "",
        };
        if !self.args.command.is_empty() {
            how += &format!(": {}", Command::new(&self.args.command));
        }
        page.line("Interaction", &how);
        page
    }

    /// What follows in a namespace that is left alone.
    fn exempt(&self, why: Exempt) -> String {
        let mut page = self.head();
        let namespace = self.pod.namespace().unwrap_or_default();
        let outcome = match why {
            Exempt::ByName => format!("{namespace} is always exempt from Curfew"),
            Exempt::ByLabel => format!(
                "{namespace} is exempt from Curfew by its label {}={}",
                namespaces::LABEL,
                namespaces::EXEMPT
            ),
        };
        page.line("Outcome", &format!("none: the namespace {outcome}"));
        page.0
    }

    /// What follows, and why. `allowed` tells whether the user may do it at all.
    fn answer(&self, book: &Book, allowed: Option<bool>, now: Timestamp) -> String {
        let subject = self.subject();
        let considered = book.policies.explain(&subject);
        let applies = considered
            .iter()
            .find(|one| one.matched == PolicyMatch::Applies);
        let policy = applies.map(|one| one.policy);
        // The flags are the webhook's: whatever would come of these is not shown.
        let decision = book.policies.decide(&subject, DefaultTerms::default());

        let mut page = self.head();
        page.line(
            "Policy",
            policy.map_or("<none>: the webhook's defaults apply", |policy| {
                &policy.name
            }),
        );
        let spec = policy.map(|policy| &policy.spec);
        page.line("Behaviour", &behaviour::told(self.behaviour, spec));
        page.maybe(
            "Learned",
            spec.filter(|spec| spec.learns())
                .map(|_| "yes, unless it is irregular"),
        );
        self.outcome(&mut page, decision, spec);
        for warning in by_the_pod(&book.policies.pod_choice(&subject), policy) {
            page.line("But", &warning);
        }
        let hint = policy.and_then(|policy| hint(&book.policies, &policy.spec, &subject));
        page.maybe("Harmless Commands", hint);
        if allowed == Some(false)
            && let Some(wanted) = self.args.asks_for(self.pod)
        {
            let [verb, subresource] =
                [wanted.verb, wanted.subresource].map(Option::unwrap_or_default);
            let user = &self.user.name;
            page.line(
                "But",
                &format!(
                    "{user} may not {verb} pods/{subresource} here: the API server refuses it, and nothing is \
                     recorded"
                ),
            );
        }
        let node = self.pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        if node.is_none_or(str::is_empty) {
            page.line(
                "But",
                "the pod is not on a node yet: interactions are not recorded",
            );
        }
        if let Some(at) = eviction_time(&self.pod.metadata) {
            let relative = relative(at, now);
            page.line(
                "Eviction Time",
                &match is_dry_run(&self.pod.metadata) {
                    true => format!(
                        "already at {at} ({relative}, dry run); an interaction that is enforced takes its place"
                    ),
                    false => format!(
                        "already at {at} ({relative}); another interaction can only make it earlier"
                    ),
                },
            );
        }
        match considered.is_empty() && book.unfit.is_empty() {
            true => page.section("Policies", Err("<none>")),
            false => page.section("Policies", Ok(&book.table(&considered))),
        }
        page.0
    }

    fn outcome(&self, page: &mut Page, decision: PolicyDecision<'_>, spec: Option<&Spec>) {
        let admitted = match decision {
            PolicyDecision::Deny { .. } => {
                return page.line(
                    "Outcome",
                    "Deny: it is denied, and the message names the policy",
                );
            }
            PolicyDecision::Admit(admitted) => admitted,
        };
        let terms = admitted.terms;
        page.line(
            "Outcome",
            match (terms.action, terms.exemption) {
                (Action::Evict, _)
                    if spec.and_then(|spec| spec.enforcement) == Some(Enforcement::DryRun) =>
                {
                    "Evict, as a dry run: when its time to live ends, the API server is asked whether it would \
                     evict the pod"
                }
                (Action::Evict, _) => "Evict: the pod is evicted when its time to live ends",
                (Action::Record, None) => {
                    "Record: it is recorded and shown on the pod, and no timer starts"
                }
                (Action::Record, Some(Exemption::Harmless)) => {
                    "Record: no timer starts, because the policy lists the command as harmless"
                }
                (Action::Record, Some(Exemption::Unmanaged)) => {
                    "Record: no timer starts while no controller would replace the pod"
                }
                (Action::Record, Some(Exemption::Completing)) => {
                    "Record: no timer starts while a Job controls the pod, because it ends by itself"
                }
                (Action::Record, Some(Exemption::Protected)) if self.subject().mirror => {
                    "Record: no timer starts, because static pods are not evicted"
                }
                (Action::Record, Some(Exemption::Protected)) => {
                    "Record: no timer starts, because pods of this priority are protected here"
                }
            },
        );
        if terms.action == Action::Evict {
            let length = |given: Option<Length>, flag: &str| match given {
                Some(Length(length)) => duration::format(length),
                None => format!("the webhook's default ({flag})"),
            };
            let of = |field: fn(&Spec) -> Option<Length>| spec.and_then(field);
            for (title, given, flag) in [
                ("Time To Live", of(|spec| spec.ttl), "--default-ttl"),
                (
                    "Longest Extension",
                    of(|spec| spec.max_extension),
                    "--default-max-extension",
                ),
                (
                    "Longest Hold",
                    of(|spec| spec.max_hold),
                    "--default-max-hold",
                ),
            ] {
                page.line(title, &length(given, flag));
            }
            let given = spec.and_then(|spec| spec.enforcement);
            page.line(
                "Enforcement",
                given.map_or(
                    "the webhook's default (--default-enforcement)",
                    Enforcement::as_str,
                ),
            );
            on_evidence(page, &terms, self.args.kind);
        }
        page.maybe(
            "Command Kept",
            match admitted.record_command {
                RecordCommand::Full => None,
                RecordCommand::Name => Some("its first word"),
                RecordCommand::None => Some("nothing of it"),
            },
        );
    }
}

/// What follows from what is found in the pod, where anything does.
fn on_evidence(page: &mut Page, terms: &Terms, kind: Kind) {
    if terms.on_evidence.when_changed == WhenChanged::Now {
        page.line(
            "When Changed",
            "Now: the pod is evicted as soon as a change in it is found",
        );
    }
    if terms.on_evidence.when_unchanged == WhenUnchanged::Release {
        page.line(
            "When Unchanged",
            match kind {
                Kind::Exec | Kind::Bypass => {
                    "Release: the pod stays if, at its deadline, all of it could be seen and nothing had changed"
                }
                Kind::Attach | Kind::Portforward | Kind::Debug => {
                    "Evict: Release applies only to exec and bypass, whose end is seen"
                }
            },
        );
    }
}

/// What everyone who may edit pods can bring about, where that matters: `applies` applies now.
fn by_the_pod(choice: &PodChoice<'_>, applies: Option<&Policy>) -> Vec<String> {
    let fixed = choice
        .fixed
        .map_or("the webhook's defaults", |fixed| &fixed.name);
    let mut warnings = Vec::new();
    if applies.is_some_and(|policy| policy.spec.depends_on_the_pod()) {
        warnings.push(format!(
            "the policy applies because of the pod's labels or controller, which everyone who may edit pods can \
             change; without policies that depend on them, {fixed} would apply"
        ));
    }
    let others: Vec<_> = choice
        .laxer
        .iter()
        .filter(|laxer| Some(**laxer) != applies)
        .map(|laxer| laxer.name.as_str())
        .collect();
    if !others.is_empty() {
        let mut names = others[..others.len().min(MOST_LAXER)].join(", ");
        if others.len() > MOST_LAXER {
            names += &format!(" and {} more", others.len() - MOST_LAXER);
        }
        warnings.push(format!(
            "with other labels or another controller, which everyone who may edit pods can set, a less strict policy \
             would apply: {names}"
        ));
    }
    warnings
}

/// What of the question keeps the pod's timer from being spared by a harmless command.
fn hint(policies: &Policies, spec: &Spec, subject: &Subject<'_>) -> Option<&'static str> {
    let follows = |subject| match policies.decide(subject, DefaultTerms::default()) {
        PolicyDecision::Admit(admitted) => Some((admitted.terms.action, admitted.terms.exemption)),
        PolicyDecision::Deny { .. } => None,
    };
    let silent = Subject {
        stdin: false,
        tty: false,
        ..*subject
    };
    if follows(subject) != Some((Action::Evict, None)) {
        None
    } else if follows(&silent) == Some((Action::Record, Some(Exemption::Harmless))) {
        Some("this command is one, but only without -i and -t")
    } else if subject.kind == Kind::Exec
        && subject.argv.is_empty()
        && !spec.harmless_commands.is_empty()
    {
        Some("the policy lists some, which start no timer: add a command after --")
    } else {
        None
    }
}

#[cfg(test)]
#[path = "explain/tests.rs"]
mod tests;
