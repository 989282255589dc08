//! The cluster's certificates and kubeconfigs, made anew by every cluster and thrown away with it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::{
    ip_family::IpFamily,
    layout::{self, NODES},
    state,
};

/// Where the API server is found.
fn server(family: IpFamily) -> String {
    format!("https://{}", layout::api_server(family))
}

/// A file of the PKI.
pub fn path(name: &str) -> PathBuf {
    layout::machine("pki").join(name)
}

/// The kubeconfig of a part of the cluster, or of its administrator (`admin`).
pub fn kubeconfig(name: &str) -> PathBuf {
    path(&format!("{name}.kubeconfig"))
}

/// A certificate to be made: who it is for, what it may do and which names it answers to.
struct Leaf<'a> {
    file: &'a str,
    common_name: &'a str,
    organization: Option<&'a str>,
    names: Vec<String>,
}

impl<'a> Leaf<'a> {
    fn plain(file: &'a str, common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self {
            file,
            common_name,
            organization,
            names: Vec::new(),
        }
    }
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(file: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        params
            .distinguished_name
            .push(DnType::CommonName, format!("curfew-cluster {file}"));
        let certificate = params.self_signed(&key)?.pem();
        write(&format!("{file}.crt"), &certificate)?;
        write(&format!("{file}.key"), &key.serialize_pem())?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Makes a certificate that serves and calls: which of the two it is for is in who asks for it.
    fn issue(&self, leaf: &Leaf<'_>) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(leaf.names.clone())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.common_name);
        if let Some(organization) = leaf.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        write(&format!("{}.crt", leaf.file), &certificate)?;
        write(&format!("{}.key", leaf.file), &key)?;
        Ok((certificate, key))
    }

    fn kubeconfig(&self, family: IpFamily, leaf: &Leaf<'_>) -> Result<()> {
        let (certificate, key) = self.issue(leaf)?;
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "curfew",
                "cluster": { "server": server(family), "certificate-authority-data": encode(&self.certificate) },
            }],
            "users": [{
                "name": leaf.file,
                "user": { "client-certificate-data": encode(&certificate), "client-key-data": encode(&key) },
            }],
            "contexts": [{ "name": "curfew", "context": { "cluster": "curfew", "user": leaf.file } }],
            "current-context": "curfew",
        });
        write(
            &format!("{}.kubeconfig", leaf.file),
            &serde_json::to_string_pretty(&config)?,
        )
    }
}

fn write(name: &str, content: &str) -> Result<()> {
    state::replace(&path(name), content.as_bytes())
}

/// Makes everything, unless it is all there. A half made set is made anew: nothing can have used it yet.
pub fn ensure(family: IpFamily) -> Result<()> {
    let done = path("done");
    if done.exists() {
        return Ok(());
    }
    let dir = layout::machine("pki");
    drop(fs::remove_dir_all(&dir));
    generate(family).context("the certificates cannot be made")?;
    state::replace(&done, b"")
}

fn generate(family: IpFamily) -> Result<()> {
    let ca = Authority::new("ca")?;
    let localhost = || vec!["localhost".to_owned(), "127.0.0.1".to_owned()];

    let mut names = localhost();
    names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    names.extend([family.kubernetes_service(), family.host()].map(|address| address.to_string()));
    ca.issue(&Leaf {
        names,
        ..Leaf::plain("apiserver", "kube-apiserver", None)
    })?;
    ca.issue(&Leaf::plain(
        "apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    ))?;

    for (file, user, group) in [
        ("admin", "curfew-admin", Some("system:masters")),
        (
            "kube-controller-manager",
            "system:kube-controller-manager",
            None,
        ),
        ("kube-scheduler", "system:kube-scheduler", None),
    ] {
        ca.kubeconfig(family, &Leaf::plain(file, user, group))?;
    }
    for node in NODES {
        let (name, address) = (node.name(), node.address(family).to_string());
        let user = format!("system:node:{name}");
        ca.kubeconfig(family, &Leaf::plain(&name, &user, Some("system:nodes")))?;
        let names = vec![name.clone(), address];
        ca.issue(&Leaf {
            names,
            ..Leaf::plain(&format!("{name}-serving"), &user, Some("system:nodes"))
        })?;
    }

    // Authorities of their own: a certificate of the cluster's must open neither the store nor the aggregation layer.
    let etcd = Authority::new("etcd-ca")?;
    etcd.issue(&Leaf {
        names: localhost(),
        ..Leaf::plain("etcd", "etcd", None)
    })?;
    etcd.issue(&Leaf::plain(
        "apiserver-etcd-client",
        "kube-apiserver",
        None,
    ))?;
    Authority::new("front-proxy-ca")?.issue(&Leaf::plain(
        "front-proxy-client",
        "front-proxy-client",
        None,
    ))?;

    let service_accounts = KeyPair::generate()?;
    write("service-accounts.key", &service_accounts.serialize_pem())?;
    write("service-accounts.pub", &service_accounts.public_key_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_kubeconfigs_is_a_url() {
        assert_eq!(server(IpFamily::IPv4), "https://10.203.0.1:17443");
        assert_eq!(server(IpFamily::IPv6), "https://[fd00:203::1]:17443");
    }
}
