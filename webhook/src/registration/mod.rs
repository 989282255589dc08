//! Registers the webhook with the API server.
//!
//! Owns the ValidatingWebhookConfiguration on the API server. The webhook writes it only after a replica has
//! answered a request of the API server, repairs it when someone changes or deletes it, and deletes it when Curfew's
//! namespace is being deleted. So neither the installation nor the removal of Curfew blocks anyone's exec.
//! [`crate::registration::configuration`] defines its content, and [`crate::registration::api_server`] what in it depends on
//! the version of the API server. [`self_check`] notices an API server that does not follow it.

pub mod api_server;
pub mod configuration;
mod probe;
pub(crate) mod self_check;

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Namespace,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use curfew_runtime::{api, error_chain, time::until};

use crate::{
    identity::{Identities, bundle, paths},
    metrics::Metrics,
    names::{MANAGER, NAME},
    registration::{
        api_server::ConnectVerbs,
        configuration::{Fit, Installation},
        probe::Probed,
    },
    watching::watched,
};

/// The first and the longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Between two repairs: somebody who insists on something else is not fought faster than that.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(10);
/// The longest pause before what others add again and again is taken off.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long a change has to last before it is mended.
const SETTLE: Duration = Duration::from_millis(500);

/// Keeps the configuration.
pub(crate) struct Registration {
    /// To read and write.
    pub(crate) client: Client,
    /// The namespace of Curfew.
    pub(crate) namespace: String,
    /// Whom the API server is to trust.
    pub(crate) identities: Identities,
    /// Whether the API server asks about the agents' evictions.
    pub(crate) eviction_guard: bool,
    /// Whether `get` suffices for a connection whatever the version of the API server is.
    pub(crate) connect_by_get: bool,
    /// To count.
    pub(crate) metrics: Metrics,
}

/// What was written, and for which API server.
struct Registered {
    configuration: ValidatingWebhookConfiguration,
    connect_verbs: ConnectVerbs,
}

/// Why the configuration is not written.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    /// Curfew is being removed: it is not to be written any more.
    #[error("Curfew is being removed")]
    Removal,
    /// Something that may pass.
    #[error("{0}")]
    Passing(String),
}

impl Registration {
    /// Writes the configuration and keeps it as it should be until `stop`.
    ///
    /// # Errors
    /// When the watches end, which they do not by themselves.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            kept = self.keep() => match kept {
                Obstacle::Removal => self.withdraw().await,
                obstacle => anyhow::bail!(obstacle),
            },
        }
        stop.cancelled().await;
        Ok(())
    }

    /// Keeps the configuration, until there is a reason not to.
    async fn keep(&self) -> Obstacle {
        let watches = &self.metrics.watches;
        let (configuration, namespace) =
            (watches.open("configuration"), watches.open("own-namespace"));
        let mut configurations = watched(&configuration, self.configurations(), NAME);
        let mut namespaces = watched(&namespace, self.namespaces(), &self.namespace);
        let mut identities = self.identities.clone();
        let mut repair_not_before = Instant::now();
        let mut repair_due: Option<Instant> = Some(repair_not_before);
        let mut narrowing = Narrowing::default();
        let mut wanted = None;
        loop {
            tokio::select! {
                () = until(repair_due) => {
                    repair_due = None;
                    match self.register().await {
                        Ok(written) => wanted = Some(written),
                        Err(obstacle) => return obstacle,
                    }
                    repair_not_before = Instant::now() + BETWEEN_REPAIRS;
                }
                Some(actual) = configurations.next() => {
                    let Some(wanted) = &wanted else { continue };
                    let outdated = self.is_outdated(wanted).await;
                    let fit = match &actual {
                        Some(actual) if configuration::is_of_another_release(actual) => Fit::Same,
                        Some(actual) if !outdated => configuration::fit(&wanted.configuration, actual),
                        _ => Fit::Other,
                    };
                    self.metrics.registered(fit == Fit::Same);
                    // What comes first may be older than what this replica has just written: it is
                    // looked at once more before anything is done.
                    let soon = repair_not_before.max(Instant::now() + SETTLE);
                    repair_due = match fit {
                        Fit::Same => None,
                        Fit::Other => Some(soon),
                        Fit::Narrowed(added) => {
                            tracing::warn!(
                                event = "registration-narrowed",
                                added,
                                "others have added conditions to the webhook configuration; interactions that \
                                 these exclude are not recorded"
                            );
                            Some(soon.max(narrowing.next()))
                        }
                    };
                }
                Ok(()) = identities.changed() => {
                    // Most changes are of certificates alone.
                    if wanted.as_ref().is_some_and(|wanted| !self.is_told(&wanted.configuration)) {
                        repair_due = Some(Instant::now());
                    }
                }
                Some(namespace) = namespaces.next() => {
                    if namespace.is_none_or(|namespace| is_going(&namespace)) {
                        return Obstacle::Removal;
                    }
                }
                else => return Obstacle::Passing("the watches of the registration ended".to_owned()),
            }
        }
    }

    /// Writes the configuration as soon as that stops nobody.
    async fn register(&self) -> Result<Registered, Obstacle> {
        let mut pause = PAUSE.0;
        let mut told = String::new();
        loop {
            match self.attempt().await {
                Ok(written) => {
                    self.metrics.registered(true);
                    return Ok(written);
                }
                Err(Obstacle::Passing(why)) => {
                    // Each reason once: the first seconds of an installation would else be noise.
                    if why != told {
                        tracing::info!(event = "registration-waits", why);
                        told = why;
                    }
                }
                Err(obstacle) => return Err(obstacle),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt(&self) -> Result<Registered, Obstacle> {
        let namespace = call(self.namespaces().get_opt(&self.namespace)).await?;
        let namespace = namespace
            .filter(|namespace| !is_going(namespace))
            .ok_or(Obstacle::Removal)?;
        let ca = bundle(&self.identities);
        let (Some(ca), Some(paths)) = (ca, paths(&self.identities)) else {
            return Err(Obstacle::Passing("there is no CA yet".to_owned()));
        };
        let installation = Installation {
            namespace: self.namespace.clone(),
            namespace_uid: namespace.metadata.uid.unwrap_or_default(),
            ca,
            paths,
            eviction_guard: self.eviction_guard,
            connect_verbs: self.connect_verbs().await?,
        };
        let registered = Registered {
            configuration: installation.full(),
            connect_verbs: installation.connect_verbs,
        };
        let full = &registered.configuration;
        let before = call(self.configurations().get_opt(NAME)).await?;
        if before
            .as_ref()
            .is_some_and(|before| configuration::fit(full, before) == Fit::Same)
        {
            return Ok(registered);
        }
        self.apply(&installation.probing(before.as_ref())).await?;
        self.probe().await?;
        self.apply(full).await?;
        self.metrics.written(before.is_some());
        tracing::info!(
            event = "registered",
            configuration = NAME,
            stood_before = before.is_some(),
            connect_verbs = ?registered.connect_verbs,
            "the API server now calls the webhook for every interaction"
        );
        Ok(registered)
    }

    async fn connect_verbs(&self) -> Result<ConnectVerbs, Obstacle> {
        if self.connect_by_get {
            return Ok(ConnectVerbs::GetOrCreate);
        }
        let verbs = ConnectVerbs::of(&self.client).await;
        verbs.map_err(|error| {
            Obstacle::Passing(format!("the API server does not tell its version: {error}"))
        })
    }

    /// Whether the API server has been replaced by an older one, whose connections the configuration would leave out.
    /// It is asked when the watch lists anew, as after it has lost its connection to the one before.
    async fn is_outdated(&self, registered: &Registered) -> bool {
        registered.connect_verbs == ConnectVerbs::Create
            && matches!(self.connect_verbs().await, Ok(ConnectVerbs::GetOrCreate))
    }

    /// Whether a configuration tells the CA and the paths of the moment.
    fn is_told(&self, configuration: &ValidatingWebhookConfiguration) -> bool {
        configuration::trusted(configuration) == bundle(&self.identities)
            && paths(&self.identities).is_none_or(|paths| paths.are_told_by(configuration))
    }

    async fn apply(&self, wanted: &ValidatingWebhookConfiguration) -> Result<(), Obstacle> {
        let params = PatchParams::apply(MANAGER).force();
        let (all, patch) = (self.configurations(), Patch::Apply(wanted));
        call(all.patch(NAME, &params, &patch)).await.map(drop)
    }

    /// Proves that the API server reaches a replica that shares our CA.
    async fn probe(&self) -> Result<(), Obstacle> {
        match probe::probe(self.client.clone(), &self.namespace).await {
            Probed::Seen => Ok(()),
            Probed::Unseen => Err(Obstacle::Passing(
                "the API server does not know the probe of the webhook yet".to_owned(),
            )),
            Probed::Failed(why) => Err(Obstacle::Passing(format!(
                "the API server does not reach the webhook: {why}"
            ))),
        }
    }

    /// Deletes the configuration before the last replica goes.
    async fn withdraw(&self) {
        self.metrics.registered(false);
        let params = DeleteParams::default();
        match api::call(self.configurations().delete(NAME, &params)).await {
            Ok(_) => tracing::info!(
                event = "withdrawn",
                "Curfew is being removed; the API server no longer calls the webhook"
            ),
            // Another replica was faster.
            Err(error) if error_chain::code(&error) == Some(404) => {}
            // Without permissions the configuration has no effect any more, and it goes with the
            // namespace, which owns it.
            Err(error) => tracing::info!(
                event = "not-withdrawn",
                error = error_chain::short(&error),
                "Curfew is being removed; the configuration is deleted with the namespace"
            ),
        }
    }

    fn configurations(&self) -> Api<ValidatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }
}

/// When what others add is taken off again: at once, and ever later when they add it ever again. Who insists,
/// such as an enforcer of a managed cluster, is not fought: that it stands there is told.
#[derive(Debug, Default)]
struct Narrowing {
    /// When the last was to be taken off, and the pause before.
    last: Option<(Instant, Duration)>,
}

impl Narrowing {
    /// When to take off what was seen now.
    fn next(&mut self) -> Instant {
        let now = Instant::now();
        let (at, pause) = match self.last {
            // What is still to be taken off is seen once more.
            Some((at, pause)) if now <= at => (at, pause),
            Some((at, pause)) if now < at + LONGEST_PAUSE => {
                let pause = (pause * 4).clamp(BETWEEN_REPAIRS, LONGEST_PAUSE);
                (now + pause, pause)
            }
            _ => (now, Duration::ZERO),
        };
        self.last = Some((at, pause));
        at
    }
}

fn is_going(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Obstacle> {
    let called = api::call(call).await;
    called.map_err(|error| Obstacle::Passing(error_chain::short(&error)))
}

#[cfg(test)]
mod tests {
    use curfew_api_server::{Answer, ApiServer};
    use serde_json::json;

    use super::*;

    fn registration(server: &ApiServer, connect_by_get: bool) -> Registration {
        Registration {
            client: server.client(),
            namespace: "curfew".to_owned(),
            identities: tokio::sync::watch::channel(None).1,
            eviction_guard: false,
            connect_by_get,
            metrics: Metrics::new().unwrap(),
        }
    }

    #[tokio::test]
    async fn an_older_api_server_makes_a_configuration_outdated() {
        let server = ApiServer::new();
        let of_version = |minor: &str| {
            let version = json!({"major": "1", "minor": minor});
            server.script(move |_| Answer::json(200, &version));
        };
        let registration = registration(&server, false);
        let registered = |connect_verbs| Registered {
            configuration: ValidatingWebhookConfiguration::default(),
            connect_verbs,
        };
        let (newer, older) = (
            registered(ConnectVerbs::Create),
            registered(ConnectVerbs::GetOrCreate),
        );
        of_version("34");
        assert!(registration.is_outdated(&newer).await);
        assert!(!registration.is_outdated(&older).await);
        of_version("35");
        assert!(!registration.is_outdated(&newer).await);
        // What excludes nothing may stay for a while.
        assert!(!registration.is_outdated(&older).await);
        server.script(|_| Answer::status(503, "scripted"));
        assert!(!registration.is_outdated(&newer).await);
    }

    #[tokio::test]
    async fn the_version_matters_only_without_the_flag() {
        let server = ApiServer::new();
        server.script(|_| Answer::status(503, "scripted"));
        let verbs = registration(&server, true).connect_verbs().await;
        assert!(matches!(verbs, Ok(ConnectVerbs::GetOrCreate)));
        let error = registration(&server, false)
            .connect_verbs()
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("does not tell its version"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_insists_is_fought_ever_more_slowly() {
        let mut narrowing = Narrowing::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let at = narrowing.next();
            assert_eq!(narrowing.next(), at, "seen twice before anything was done");
            pauses.push(at.duration_since(Instant::now()).as_secs());
            tokio::time::sleep_until(at + Duration::from_secs(1)).await;
        }
        assert_eq!(pauses, [0, 10, 40, 160, 640, 2560, 3600, 3600]);
        tokio::time::sleep(LONGEST_PAUSE).await;
        assert_eq!(narrowing.next(), Instant::now());
    }
}
