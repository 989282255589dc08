//! What the version of the API server decides: with which verb a client may connect to a pod.
//!
//! Owns this decision. Nothing else in Curfew depends on the version. Other differences are found out by the request
//! itself: as whom agents may act, and whether a watch may begin with a list.

use axum::http::Request;
use curfew_runtime::{api, error_chain};
use kube::Client;
use serde::Deserialize;

/// The first minor of Kubernetes 1 that asks for `create`.
const CREATE_SINCE: u32 = 35;

/// The verbs with which a client may connect to a pod, so that the connection is more than a request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectVerbs {
    /// Every connection takes `create`, whatever its method: the feature gate
    /// AuthorizePodWebsocketUpgradeCreatePermission, on by default since Kubernetes 1.35.
    Create,
    /// A WebSocket begins with a GET, which takes `get`. Other connections begin with a POST, which takes `create`.
    GetOrCreate,
}

/// The part of `/version` that matters. The numbers are texts, to which a distribution may have added a `+`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    major: String,
    minor: String,
    /// Since Kubernetes 1.33: which version's features it has. It is an older one for a while after an upgrade, if
    /// administrators want to be able to go back.
    emulation_major: Option<String>,
    emulation_minor: Option<String>,
}

impl ConnectVerbs {
    /// Those of the API server that answers now.
    ///
    /// # Errors
    /// When it does not tell its version.
    pub(super) async fn of(client: &Client) -> Result<Self, String> {
        let request = Request::get("/version").body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let version = api::call(client.request::<Version>(request)).await;
        let version = version.map_err(|error| error_chain::short(&error))?;
        let verbs = version.connect_verbs();
        tracing::debug!(?version, ?verbs, "read the version of the API server");
        Ok(verbs)
    }
}

impl Version {
    /// A version that cannot be read is taken for an old one: then no connection is missed.
    fn connect_verbs(&self) -> ConnectVerbs {
        let number = |text: &str| text.trim_end_matches('+').parse::<u32>().ok();
        let version = |major: &str, minor: &str| number(major).zip(number(minor));
        let emulated = self.emulation_major.as_deref();
        let emulated = emulated.zip(self.emulation_minor.as_deref());
        let (major, minor) = emulated.unwrap_or((&self.major, &self.minor));
        match version(major, minor) {
            Some(version) if version >= (1, CREATE_SINCE) => ConnectVerbs::Create,
            _ => ConnectVerbs::GetOrCreate,
        }
    }
}

#[cfg(test)]
mod tests {
    use curfew_api_server::{Answer, ApiServer};
    use serde_json::{Value, json};

    use super::{ConnectVerbs::*, *};

    fn verbs(version: Value) -> ConnectVerbs {
        let version: Version = serde_json::from_value(version).unwrap();
        version.connect_verbs()
    }

    #[test]
    fn the_version_decides_with_which_verb_a_client_connects() {
        for (minor, expected) in [
            ("32", GetOrCreate),
            ("34", GetOrCreate),
            ("34+", GetOrCreate),
            ("35", Create),
            ("35+", Create),
            ("37", Create),
            ("100", Create),
            ("", GetOrCreate),
            ("new", GetOrCreate),
        ] {
            let version = json!({"major": "1", "minor": minor, "gitVersion": "v1.33.1-eks-1a2b3c"});
            assert_eq!(verbs(version), expected, "{minor}");
        }
        assert_eq!(verbs(json!({"major": "2", "minor": "0"})), Create);
    }

    #[test]
    fn a_server_that_emulates_an_older_one_is_as_the_older_one() {
        let emulating = |minor: &str| json!({"major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": minor});
        assert_eq!(verbs(emulating("34")), GetOrCreate);
        assert_eq!(verbs(emulating("36")), Create);
    }

    #[tokio::test]
    async fn the_version_is_asked_for_and_must_be_told() {
        let server = ApiServer::new();
        let client = server.client();
        let version = json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4", "platform": "linux/amd64"});
        server.script(move |asked| match asked.path.as_str() {
            "/version" => Answer::json(200, &version),
            _ => Answer::status(404, "not found"),
        });
        assert_eq!(ConnectVerbs::of(&client).await, Ok(GetOrCreate));
        server.script(|_| Answer::status(403, "may not get the path"));
        let error = ConnectVerbs::of(&client).await.unwrap_err();
        assert!(error.contains("may not get the path"), "{error}");
    }
}
