//! Who is let in where.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use curfew_core::identity::{WEBHOOK, agent};
use curfew_e2e::{
    NODES, TestCluster,
    agents::sample,
    disrupt::{self, agent_of},
    eventually, rotation, within_namespace,
};
use curfew_runtime::tls::{Leaf, Trust};
use curfew_webhook::identity::secret::Authorities;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const NOTICES: u16 = 8443;
const DEBUGGING: u16 = 9091;
const MINUTE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(5);

/// Posts something to an agent, and returns the status of its answer.
async fn post<S>(stream: S, headers: &[(&str, &str)]) -> Result<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let posting = async {
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::post("/v1/interactions").header("host", "agent");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from_static(b"{}"));
        let answer = client.send_request(request.body(body)?).await?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        Ok(status)
    };
    timeout(LIMIT, posting).await?
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    Ok(timeout(LIMIT, TcpStream::connect(address)).await??)
}

/// The same, as somebody with this certificate or none, who verifies that it is that node's agent.
async fn post_tls(
    address: SocketAddr,
    node: &str,
    config: ClientConfig,
    headers: &[(&str, &str)],
) -> Result<u16> {
    let name = ServerName::try_from(agent(node))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = timeout(LIMIT, connector.connect(name, connect(address).await?)).await??;
    post(stream, headers).await
}

/// Shows no certificate.
fn anonymous(authorities: &Authorities) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authorities.bundle().as_bytes(),
    )?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn refused(pod: &Pod, reason: &str) -> Result<f64> {
    let metrics = disrupt::metrics(pod).await?;
    let series = format!("curfew_agent_refused_peers_total{{reason=\"{reason}\"}}");
    sample(&metrics, &series).with_context(|| format!("there is no {series}"))
}

fn address(pod: &Pod, port: u16) -> Result<SocketAddr> {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref());
    let ip = ip.context("the agent has no address")?;
    Ok(SocketAddr::new(ip.parse()?, port))
}

/// A token of an account of the namespace, for this audience.
async fn token(cluster: &TestCluster, namespace: &str, audience: Option<&str>) -> Result<String> {
    let mut args = vec!["create", "token", "default"];
    let audience = audience.map(|audience| format!("--audience={audience}"));
    args.extend(audience.as_deref());
    let kubectl = cluster.kubectl().in_namespace(namespace);
    Ok(format!("Bearer {}", kubectl.ok(&args).await?.trim()))
}

#[tokio::test]
async fn an_agent_takes_notices_from_the_webhook_alone() {
    within_namespace("endpoints", async |namespace| {
        let cluster = &namespace.cluster;
        let node = NODES[0];
        let pod = agent_of(cluster, node).await?;
        let at = address(&pod, NOTICES)?;
        let authorities = rotation::authorities(cluster).await?;
        let trust = Trust::from_pem(&authorities.bundle())?;
        let current = &authorities.current;

        // It is let in, and then told that this is no notice.
        let webhook = current.calling(WEBHOOK, MINUTE)?.call(&trust)?;
        let status = post_tls(at, node, webhook, &[]).await?;
        ensure!(status == 400, "the webhook: {status}");

        let foreign = Authorities::new(MINUTE)?;
        let ended = current.calling(WEBHOOK, Duration::ZERO)?;
        // Certificates hold to the end of a whole second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let key = KeyPair::generate()?;
        let other_agent = current.sign_agent_certificate(NODES[1], &key, MINUTE)?;
        let other_agent = Leaf::from_pem(other_agent.as_bytes(), key.serialize_der())?;
        for (who, leaf, reason) in [
            (
                "a foreign CA",
                foreign.current.calling(WEBHOOK, MINUTE)?,
                "untrusted",
            ),
            ("one that ended", ended, "expired"),
            (
                "another name",
                current.calling("someone.example.org", MINUTE)?,
                "name",
            ),
            ("another agent", other_agent, "purpose"),
        ] {
            let before = refused(&pod, reason).await?;
            let answer = post_tls(at, node, leaf.call(&trust)?, &[]).await;
            ensure!(answer.is_err(), "{who} was answered with {answer:?}");
            eventually(LIMIT, "it is counted", async || {
                Ok((refused(&pod, reason).await? > before).then_some(()))
            })
            .await
            .with_context(|| who.to_owned())?;
        }

        let usual = token(cluster, &namespace.name, None).await?;
        let elsewhere = token(cluster, &namespace.name, Some("elsewhere")).await?;
        for authorization in [None, Some(&usual), Some(&elsewhere)] {
            let headers: Vec<_> = authorization
                .iter()
                .map(|token| ("authorization", token.as_str()))
                .collect();
            let answer = post_tls(at, node, anonymous(&authorities)?, &headers).await;
            ensure!(answer.is_err(), "without a certificate: {answer:?}");
            let answer = post(connect(at).await?, &headers).await;
            ensure!(answer.is_err(), "plain HTTP: {answer:?}");
        }

        // It is this node's agent, and no other.
        let webhook = current.calling(WEBHOOK, MINUTE)?.call(&trust)?;
        let Err(error) = post_tls(at, NODES[1], webhook, &[]).await else {
            bail!("it passes for the agent of {}", NODES[1]);
        };
        ensure!(
            format!("{error:#}").contains("not valid for name"),
            "{error:#}"
        );

        // What is for those who look into the agent listens on its loopback alone.
        let debugging = connect(address(&pod, DEBUGGING)?).await;
        ensure!(debugging.is_err(), "the debugging port can be reached");
        Ok(())
    })
    .await;
}
