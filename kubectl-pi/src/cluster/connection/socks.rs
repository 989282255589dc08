//! A client that reaches the API server through a SOCKS5 proxy with a user name and a password (RFC 1929). kube
//! knows no such proxies; all the rest is as kube's own clients have it.

use hyper::Uri;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        Builder,
        connect::{HttpConnector, proxy::SocksV5},
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt, retry::RetryPolicy},
};
use tower::{BoxError, ServiceBuilder, retry::RetryLayer};

use super::{proxy::ProxyUser, requests::Requests};

/// A client of the API server through the proxy at this address.
pub(super) fn client(
    config: Config,
    proxy: Uri,
    user: ProxyUser,
    requests: &Requests,
) -> anyhow::Result<Client> {
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    let tunnel = SocksV5::new(proxy, direct).with_auth(user.name, user.password);
    let connector = config.rustls_https_connector_with_connector(tunnel)?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http = Builder::new(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(requests)
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
