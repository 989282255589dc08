//! The AdmissionReviews that the API server sends, and the responses to them.
//!
//! Owns their form, and says which field is wrong when a review is not what it should be. What follows from a
//! request is left to others. Nothing here does any I/O.

use curfew_core::{Kind, interaction::MAX_USER, text::cut};
use serde::Deserialize;
use serde_json::value::RawValue;

pub mod answer;
pub mod eviction;

/// The longest problem that is told, in bytes.
const MAX_PROBLEM: usize = 240;

/// The longest UID of a request: the API server's have 36 bytes. With the name of a container behind
/// it, it still fits into a notice.
const MAX_UID: usize = 63;

/// A review of which at least the UID could be read, so that it can be answered.
#[derive(Debug)]
pub struct Review<R = Request> {
    /// The UID of the request, which the answer has to repeat.
    pub uid: String,
    /// The request.
    pub request: Result<R, Unfit>,
}

/// Somebody wants to reach into a pod.
#[derive(Debug)]
pub struct Request {
    /// The pod's namespace, as the request says.
    pub namespace: String,
    /// The pod's name, as the request says.
    pub name: String,
    /// Who, of bounded length.
    pub user: String,
    /// The groups of who it is.
    pub groups: Vec<String>,
    /// Whether nothing is to come of it.
    pub dry_run: bool,
    /// How.
    pub subresource: Subresource,
}

/// How somebody wants to reach into a pod.
#[derive(Debug)]
pub enum Subresource {
    /// `kubectl exec`.
    Exec(Options),
    /// `kubectl attach`.
    Attach(Options),
    /// `kubectl port-forward`.
    Portforward,
    /// `kubectl debug`.
    Debug {
        /// The ephemeral containers that the pod is to have. Which of them are new is for the pod itself to
        /// tell: nothing else of a pod is believed from a review.
        containers: Vec<Ephemeral>,
    },
}

/// What is asked of a container.
#[derive(Debug, Deserialize)]
pub struct Options {
    /// The container, if it was named.
    #[serde(default)]
    pub container: Option<String>,
    /// What is to run in it; attach has none.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Whether the user's standard input is to reach it.
    #[serde(default)]
    pub stdin: bool,
    /// Whether it is to have a terminal.
    #[serde(default)]
    pub tty: bool,
}

/// An ephemeral container that a pod is to have.
#[derive(Debug, PartialEq, Eq)]
pub struct Ephemeral {
    /// Its name.
    pub name: String,
    /// What is to run in it; empty where that is up to its image.
    pub argv: Vec<String>,
    /// Whether a standard input can reach it.
    pub stdin: bool,
    /// Whether it is to have a terminal.
    pub tty: bool,
}

/// A body that cannot be answered as a review.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// No JSON at all.
    #[error("the body is not JSON: {}", brief(.0))]
    NotJson(serde_json::Error),
    /// JSON, but not that of a review.
    #[error("the body is not an AdmissionReview: {}", brief(.0))]
    NotReview(serde_json::Error),
    /// An object of another kind.
    #[error(
        "the body has apiVersion {api_version:?} and kind {kind:?}; it must have admission.k8s.io/v1 and \
         AdmissionReview"
    )]
    Kind {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// A review of nothing.
    #[error("request: is missing from the AdmissionReview")]
    NoRequest,
    /// A request that cannot be answered.
    #[error("request.uid: has {0} bytes; it must have 1 to {MAX_UID}")]
    Uid(usize),
}

/// A request that is none of those that this webhook is registered for.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A field does not say what it should.
    #[error("{field}: {value:?} is not supported here; {expected}")]
    Value {
        /// The path of the field.
        field: &'static str,
        /// What it says, cut.
        value: String,
        /// What would be.
        expected: &'static str,
    },
    /// A field is missing.
    #[error("{0}: is missing")]
    Missing(&'static str),
    /// Something has another type than it should.
    #[error("{part}: {}", brief(.error))]
    Type {
        /// The path of the part that was read.
        part: &'static str,
        /// What was found there.
        error: serde_json::Error,
    },
}

/// What is wrong with a text, in bounded length: the parser may repeat all that it was given.
fn brief(error: &serde_json::Error) -> String {
    cut(&error.to_string(), MAX_PROBLEM).into_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Identified {
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(borrow, default)]
    user_info: UserInfo<'a>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    resource: String,
}

#[derive(Default, Deserialize)]
struct UserInfo<'a> {
    #[serde(default)]
    username: String,
    /// What is known of the user beyond the name; absent where nothing is.
    #[serde(borrow, default)]
    extra: Option<&'a RawValue>,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

/// What `PodExecOptions` and `PodAttachOptions` say of interest.
#[derive(Deserialize)]
struct NewPod {
    #[serde(default)]
    spec: NewSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewSpec {
    #[serde(default)]
    ephemeral_containers: Option<Vec<NewContainer>>,
}

#[derive(Deserialize)]
struct NewContainer {
    #[serde(default)]
    name: String,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    tty: bool,
}

/// The UID and the raw request of a review.
fn identify(body: &[u8]) -> Result<(String, &RawValue), Unreadable> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Unreadable::NotReview(error),
            _ => Unreadable::NotJson(error),
        })?;
    if envelope.api_version != "admission.k8s.io/v1" || envelope.kind != "AdmissionReview" {
        return Err(Unreadable::Kind {
            api_version: cut(&envelope.api_version, 80).into_owned(),
            kind: cut(&envelope.kind, 80).into_owned(),
        });
    }
    let raw = envelope.request.ok_or(Unreadable::NoRequest)?;
    let Identified { uid } = serde_json::from_str(raw.get()).map_err(Unreadable::NotReview)?;
    if uid.is_empty() || uid.len() > MAX_UID {
        return Err(Unreadable::Uid(uid.len()));
    }
    Ok((uid, raw))
}

/// Reads a review of an interaction.
///
/// # Errors
/// When it cannot even be answered with a review.
pub fn read(body: &[u8]) -> Result<Review, Unreadable> {
    let (uid, raw) = identify(body)?;
    Ok(Review {
        uid,
        request: request(raw),
    })
}

/// Reads the review of a probe: its UID and what the probe carries under `data.nonce`.
///
/// # Errors
/// When it cannot even be answered with a review.
pub fn read_probe(body: &[u8]) -> Result<(String, String), Unreadable> {
    #[derive(Deserialize)]
    struct Probe {
        object: ConfigMap,
    }
    #[derive(Deserialize)]
    struct ConfigMap {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        nonce: String,
    }
    let (uid, raw) = identify(body)?;
    let probe: Probe = serde_json::from_str(raw.get()).map_err(Unreadable::NotReview)?;
    Ok((uid, cut(&probe.object.data.nonce, 80).into_owned()))
}

fn request(raw: &RawValue) -> Result<Request, Unfit> {
    let fields: Fields<'_> = part("request", raw)?;
    of_pods(&fields.resource)?;
    let operation = match fields.sub_resource.as_str() {
        "exec" | "attach" | "portforward" => "CONNECT",
        "ephemeralcontainers" => "UPDATE",
        other => {
            return Err(value(
                "request.subResource",
                other,
                "it must be one of exec, attach, portforward, ephemeralcontainers",
            ));
        }
    };
    if fields.operation != operation {
        return Err(value(
            "request.operation",
            &fields.operation,
            "it must be CONNECT, or UPDATE for ephemeralcontainers",
        ));
    }
    if fields.user_info.username.is_empty() {
        return Err(Unfit::Missing("request.userInfo.username"));
    }
    let object = || fields.object.ok_or(Unfit::Missing("request.object"));
    let options = || -> Result<Options, Unfit> {
        let mut options: Options = part("request.object", object()?)?;
        // A client may send the empty name for none.
        options.container = options.container.filter(|name| !name.is_empty());
        Ok(options)
    };
    let subresource = match fields.sub_resource.as_str() {
        "exec" => Subresource::Exec(options()?),
        "attach" => Subresource::Attach(options()?),
        "portforward" => Subresource::Portforward,
        _ => debug(part("request.object", object()?)?),
    };
    Ok(Request {
        namespace: fields.namespace,
        name: fields.name,
        user: cut(&fields.user_info.username, MAX_USER).into_owned(),
        groups: fields.user_info.groups.unwrap_or_default(),
        dry_run: fields.dry_run.unwrap_or_default(),
        subresource,
    })
}

/// Whether a request is about pods.
fn of_pods(resource: &Resource) -> Result<(), Unfit> {
    let Resource {
        group,
        version,
        resource,
    } = resource;
    if group.is_empty() && version == "v1" && resource == "pods" {
        return Ok(());
    }
    Err(value(
        "request.resource",
        &format!("{group}/{version}/{resource}"),
        "this webhook handles subresources of pods of the core group, version v1",
    ))
}

fn value(field: &'static str, value: &str, expected: &'static str) -> Unfit {
    Unfit::Value {
        field,
        value: cut(value, 80).into_owned(),
        expected,
    }
}

/// What an update of a pod's ephemeral containers wants it to have.
fn debug(new: NewPod) -> Subresource {
    let containers = new.spec.ephemeral_containers.unwrap_or_default();
    let containers = containers.into_iter().map(|container| Ephemeral {
        name: container.name,
        stdin: container.stdin,
        tty: container.tty,
        argv: [container.command, container.args]
            .into_iter()
            .flatten()
            .flatten()
            .collect(),
    });
    Subresource::Debug {
        containers: containers.collect(),
    }
}

fn part<'a, T: Deserialize<'a>>(part: &'static str, raw: &'a RawValue) -> Result<T, Unfit> {
    serde_json::from_str(raw.get()).map_err(|error| Unfit::Type { part, error })
}

impl Subresource {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Subresource::Exec(_) => Kind::Exec,
            Subresource::Attach(_) => Kind::Attach,
            Subresource::Portforward => Kind::Portforward,
            Subresource::Debug { .. } => Kind::Debug,
        }
    }
}

#[cfg(test)]
mod tests;
