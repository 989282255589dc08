//! Keeps this replica's identity: follows the Secret on which the replicas agree, changes it when it is
//! time, and renews certificates.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use curfew_core::identity::{TRUST, TRUST_KEY};
use curfew_runtime::{api, error_chain, tls::Trust};
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, api::PostParams};
use rustls::server::danger::ClientCertVerifier;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    ExchangeStep, Identity, IdentityError, Lifetimes,
    secret::{self, Authorities, NAME, ROTATE, ROTATE_PATH},
};
use crate::{metrics::Metrics, names::NAME as CONFIGURATION, watching::watched};

/// Between two attempts at what failed.
const RETRY: Duration = Duration::from_secs(2);
/// A timer that sleeps longer than this looks at the clock in between: clocks are set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What the controller needs.
pub(crate) struct IdentityController {
    /// To read and write.
    pub(crate) client: Client,
    /// The namespace of Curfew.
    pub(crate) namespace: String,
    /// How long things last.
    pub(crate) lifetimes: Lifetimes,
    /// Who issues the certificates of API servers, if they are to show one.
    pub(crate) client_ca: Option<PathBuf>,
    /// To tell when certificates end.
    pub(crate) metrics: Metrics,
}

/// What is known of the Secret.
struct SecretState {
    authorities: Arc<Authorities>,
    asked: bool,
    asked_path: bool,
}

impl IdentityController {
    /// Keeps the identity until it is dropped.
    ///
    /// # Errors
    /// When the Secret holds no CA at the start, or a certificate cannot be made.
    pub(crate) async fn run(
        self,
        identities: watch::Sender<Option<Identity>>,
    ) -> anyhow::Result<()> {
        Err(self.keep(&identities).await.into())
    }

    async fn keep(&self, identities: &watch::Sender<Option<Identity>>) -> IdentityError {
        let mut known = loop {
            match self.agreed().await {
                Ok(known) => break known,
                Err(error @ IdentityError::Api(..)) => {
                    tracing::warn!(event = "no-certificate", %error, "trying again");
                    sleep(RETRY).await;
                }
                Err(error) => return error,
            }
        };
        if let Err(error) = self.renew(identities, &known) {
            return error;
        }
        let watch = self.metrics.watches.open("ca");
        let mut secrets: BoxStream<'_, Option<Secret>> = watched(&watch, self.secrets(), NAME);
        let mut step_due = Instant::now();
        let mut renewal_due = renewal(identities);
        loop {
            let renewed = tokio::select! {
                Some(secret) = secrets.next() => {
                    let adopted = self.adopt(&mut known, secret).await;
                    step_due = Instant::now();
                    adopted
                }
                () = sleep_until(step_due) => {
                    // While something is exchanged, no replica may miss a step for long because its watch
                    // has broken.
                    let adopted = known.authorities.is_in_exchange() && self.look(&mut known).await;
                    step_due = Instant::now() + self.advance(&known).await;
                    adopted
                }
                () = sleep_until(renewal_due) => true,
            };
            if renewed {
                if let Err(error) = self.renew(identities, &known) {
                    return error;
                }
                renewal_due = renewal(identities);
            }
        }
    }

    /// What the Secret holds; it is made if it does not exist.
    async fn agreed(&self) -> Result<SecretState, IdentityError> {
        if let Some(known) = self.stored().await? {
            return Ok(known);
        }
        let made = Authorities::new(self.lifetimes.authority)?;
        self.create(&made).await
    }

    async fn stored(&self) -> Result<Option<SecretState>, IdentityError> {
        let secret = call("read the CA's Secret", self.secrets().get_opt(NAME)).await?;
        secret.map(|secret| self.read(&secret)).transpose()
    }

    fn read(&self, secret: &Secret) -> Result<SecretState, IdentityError> {
        Ok(SecretState {
            authorities: Arc::new(Authorities::read(secret, &self.namespace)?),
            asked: secret::is_asked_for(secret, ROTATE),
            asked_path: secret::is_asked_for(secret, ROTATE_PATH),
        })
    }

    /// Stores these, unless there are some by now: then it is those.
    async fn create(&self, made: &Authorities) -> Result<SecretState, IdentityError> {
        let secret = made.write(None);
        let (secrets, params) = (self.secrets(), PostParams::default());
        match api::call(secrets.create(&params, &secret)).await {
            // Another replica was first.
            Err(error) if error_chain::code(&error) == Some(409) => {}
            created => drop(created.map_err(of("create the CA's Secret"))?),
        }
        let gone = || problem("read the CA's Secret", "it is gone again");
        self.stored().await?.ok_or_else(gone)
    }

    /// Takes over what the Secret holds now. Returns whether certificates have to be made anew.
    async fn adopt(&self, known: &mut SecretState, secret: Option<Secret>) -> bool {
        let found = match &secret {
            Some(secret) => self.read(secret),
            None => {
                tracing::warn!(
                    event = "ca-lost",
                    "the CA's Secret was deleted; storing it again"
                );
                self.create(&known.authorities).await
            }
        };
        match found {
            Ok(found) => take_over(known, found),
            Err(error) => {
                tracing::error!(event = "ca-unfit", %error, "continuing with the known CA");
                false
            }
        }
    }

    /// Reads what the Secret holds now. Returns whether certificates have to be made anew.
    async fn look(&self, known: &mut SecretState) -> bool {
        match self.stored().await {
            Ok(Some(found)) => take_over(known, found),
            // The watch tells.
            Ok(None) | Err(_) => false,
        }
    }

    /// Does what it is time for. Returns when to look again.
    async fn advance(&self, known: &SecretState) -> Duration {
        let authorities = &known.authorities;
        let now = SystemTime::now();
        let step = authorities.step(&self.lifetimes, known.asked, now);
        let path_step = authorities.path_step(&self.lifetimes, known.asked_path, now);
        if let (ExchangeStep::Wait(one), ExchangeStep::Wait(other)) = (step, path_step)
            && authorities.has_stored_paths
        {
            let left = one.min(other).duration_since(now);
            return left.unwrap_or_default().min(LONGEST_SLEEP);
        }
        // The watch tells what comes of it.
        if !matches!(step, ExchangeStep::Wait(_)) {
            match self.carry_out(authorities, step).await {
                Ok(()) => tracing::info!(event = "ca-exchange", step = ?step),
                Err(error) => {
                    tracing::info!(event = "ca-exchange-waits", step = ?step, %error, "trying again");
                }
            }
        }
        if !matches!(path_step, ExchangeStep::Wait(_)) || !authorities.has_stored_paths {
            match self.carry_out_of_paths(authorities, path_step).await {
                Ok(()) => tracing::info!(event = "path-exchange", step = ?path_step),
                Err(error) => {
                    tracing::info!(event = "path-exchange-waits", step = ?path_step, %error, "trying again");
                }
            }
        }
        RETRY
    }

    /// Takes a step of the paths, or stores those that the Secret does not have.
    async fn carry_out_of_paths(
        &self,
        authorities: &Authorities,
        step: ExchangeStep,
    ) -> Result<(), IdentityError> {
        if step == ExchangeStep::Retire {
            self.check_told(authorities).await?;
        }
        let mut wanted = authorities.clone();
        wanted.paths = authorities.paths.after(step, SystemTime::now())?;
        let answered = (step == ExchangeStep::Prepare).then_some(ROTATE_PATH);
        self.replace(authorities, &wanted, answered).await
    }

    /// Checks that API servers are told the present path: before that the former must be accepted.
    async fn check_told(&self, authorities: &Authorities) -> Result<(), IdentityError> {
        let task = "check whether API servers have the path";
        let all: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = call(task, all.get_opt(CONFIGURATION)).await?;
        let told = configuration.is_none_or(|found| authorities.paths.are_told_by(&found));
        contains(task, "the ValidatingWebhookConfiguration", told)
    }

    async fn carry_out(
        &self,
        authorities: &Authorities,
        step: ExchangeStep,
    ) -> Result<(), IdentityError> {
        if step == ExchangeStep::Switch {
            self.check_trusted(authorities).await?;
        }
        let wanted = authorities.after(step, &self.lifetimes)?;
        let answered = (step == ExchangeStep::Prepare).then_some(ROTATE);
        self.replace(authorities, &wanted, answered).await
    }

    /// Writes what is wanted into the Secret, if it still has what is known, and takes away the annotation that asked
    /// for it.
    async fn replace(
        &self,
        known: &Authorities,
        wanted: &Authorities,
        answered: Option<&str>,
    ) -> Result<(), IdentityError> {
        let task = "write the CA's Secret";
        let secret = call(task, self.secrets().get(NAME)).await?;
        let found = Authorities::read(&secret, &self.namespace)?;
        let other_paths = found.has_stored_paths && found.paths != known.paths;
        if other_paths || !found.is_same(known) {
            return Err(problem(task, "another replica did it first"));
        }
        let mut wanted = wanted.write(Some(secret));
        if let (Some(annotation), Some(annotations)) = (answered, &mut wanted.metadata.annotations)
        {
            annotations.remove(annotation);
        }
        // With the resourceVersion that was read: of two replicas one writes.
        let (secrets, params) = (self.secrets(), PostParams::default());
        call(task, secrets.replace(NAME, &params, &wanted))
            .await
            .map(drop)
    }

    /// Checks that API servers and agents are told to trust the next CA: before that it must not issue.
    async fn check_trusted(&self, authorities: &Authorities) -> Result<(), IdentityError> {
        let next = authorities.next().unwrap_or_default();
        let task = "check whether the next CA is trusted";
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = call(task, maps.get_opt(TRUST)).await?;
        let bundle = map.and_then(|map| map.data?.remove(TRUST_KEY));
        let trusted = bundle.is_some_and(|bundle| bundle.contains(next));
        contains(task, &format!("ConfigMap {TRUST}"), trusted)?;
        let all: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = call(task, all.get_opt(CONFIGURATION)).await?;
        let webhooks = configuration.and_then(|found| found.webhooks);
        let told = webhooks.into_iter().flatten().all(|webhook| {
            let bundle = webhook.client_config.ca_bundle.unwrap_or_default();
            String::from_utf8_lossy(&bundle.0).contains(next)
        });
        contains(task, "the ValidatingWebhookConfiguration", told)
    }

    /// Makes new certificates, and tells everybody.
    fn renew(
        &self,
        identities: &watch::Sender<Option<Identity>>,
        known: &SecretState,
    ) -> Result<(), IdentityError> {
        let identity = Identity::new(
            self.clients()?,
            known.authorities.clone(),
            identities.borrow().as_ref(),
            &self.namespace,
            self.lifetimes.certificate,
        )?;
        let first = identities.borrow().is_none();
        self.metrics.certificate(identity.leaf.expiry());
        self.metrics.authority(identity.authorities.current.expiry);
        identities.send_replace(Some(identity));
        if !first {
            tracing::info!(event = "certificate-renewed");
        }
        Ok(())
    }

    /// Who may ask, where that is known. The file is read each time: what issues changes, too.
    fn clients(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, IdentityError> {
        let Some(path) = &self.client_ca else {
            return Ok(None);
        };
        let unfit = |problem: String| IdentityError::ClientCa(path.clone(), problem);
        let pem = std::fs::read_to_string(path).map_err(|error| unfit(error.to_string()))?;
        let trust = Trust::from_pem(&pem).map_err(|error| unfit(error.to_string()))?;
        let verifier = trust.any_client();
        Ok(Some(verifier.map_err(|error| unfit(error.to_string()))?))
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Takes over what was found. Returns whether certificates have to be made anew.
fn take_over(known: &mut SecretState, mut found: SecretState) -> bool {
    if !found.authorities.has_stored_paths {
        // An earlier release wrote the Secret, and left them out.
        let mut authorities = Authorities::clone(&found.authorities);
        authorities.paths = known.authorities.paths.clone();
        found.authorities = Arc::new(authorities);
    }
    let news = !found.authorities.is_same(&known.authorities)
        || found.authorities.paths != known.authorities.paths;
    *known = found;
    news
}

fn renewal(identities: &watch::Sender<Option<Identity>>) -> Instant {
    let identity = identities.borrow();
    let left = identity.as_ref().map(|identity| identity.leaf.renewal());
    Instant::now() + left.unwrap_or_default()
}

async fn call<T>(
    task: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, IdentityError> {
    api::call(call).await.map_err(of(task))
}

/// What came in the way of a task.
fn of(task: &str) -> impl Fn(kube::Error) -> IdentityError {
    |error| problem(task, &error_chain::short(&error))
}

/// Whether the object contains what is asked for.
fn contains(task: &str, object: &str, does: bool) -> Result<(), IdentityError> {
    match does {
        true => Ok(()),
        false => Err(problem(task, &format!("{object} does not contain it yet"))),
    }
}

fn problem(task: &str, problem: &str) -> IdentityError {
    IdentityError::Api(task.to_owned(), problem.to_owned())
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
