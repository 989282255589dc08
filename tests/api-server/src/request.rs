//! Requests, as they are written down.

use std::time::Duration;

use axum::http::{HeaderMap, Method, request::Parts};
use serde_json::Value;

/// Who is impersonated.
const AS_USER: &str = "impersonate-user";

/// What a request is about, from its path. Parts that the path does not have are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The plural name of the resource, as `pods`.
    pub resource: String,
    /// The namespace.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The subresource, as `eviction`.
    pub subresource: String,
}

impl Target {
    /// An object. The namespace of one that is in none is empty.
    pub fn object(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        }
    }

    /// Reads paths such as `/api/v1/namespaces/shop/pods/cart-1/eviction`.
    pub(crate) fn parse(path: &str) -> Self {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        // What goes before is `api` and a version, or `apis`, a group and a version.
        let before = if parts[0] == "apis" { 3 } else { 2 };
        let parts = parts.get(before..).unwrap_or_default();
        let (namespace, parts) = match parts {
            // These are about the namespace itself.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", parts),
            ["namespaces", namespace, parts @ ..] => (*namespace, parts),
            _ => ("", parts),
        };
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        Self {
            resource: part(0),
            namespace: namespace.to_owned(),
            name: part(1),
            subresource: part(2),
        }
    }
}

/// A request and what became of it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When it came, since the server began.
    pub at: Duration,
    /// The HTTP method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query as it was sent, without the question mark.
    pub query: String,
    /// What the path names.
    pub target: Target,
    /// The user that is impersonated, if one is.
    pub user: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; null when there is none or it is not JSON.
    pub body: Value,
    /// How many requests of this method and subresource were open then, including this one.
    pub open: usize,
    /// When it ended and with which status: 0 when it broke or the client gave up.
    pub ended: Option<(Duration, u16)>,
}

impl Asked {
    pub(crate) fn new(at: Duration, head: Parts, body: &[u8]) -> Self {
        let user = head.headers.get(AS_USER);
        Self {
            at,
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            target: Target::parse(head.uri.path()),
            user: user.map(|user| user.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(body).unwrap_or_default(),
            headers: head.headers,
            open: 0,
            ended: None,
        }
    }

    /// The value of a parameter in the query; empty when there is none.
    pub fn parameter(&self, name: &str) -> String {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        let value = pairs.find(|(key, _)| key == name);
        value
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    }

    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    /// Whether it asks for the eviction of a pod.
    pub fn is_eviction(&self) -> bool {
        self.is(&Method::POST) && self.target.subresource == "eviction"
    }

    /// Whether it asks for a watch.
    pub fn is_watch(&self) -> bool {
        matches!(self.parameter("watch").as_str(), "true" | "1")
    }

    /// Whether it has ended well.
    pub fn is_accepted(&self) -> bool {
        matches!(self.ended, Some((_, 200 | 201)))
    }

    pub(crate) fn is(&self, method: &Method) -> bool {
        self.method == method.as_str()
    }
}
