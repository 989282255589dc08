//! The kubeconfig, and what the flags change about it.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use kube::{
    Config,
    config::{AuthInfo, Cluster, Context, ExecAuthCluster, Kubeconfig, KubeconfigError},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::proxy;
use crate::cluster::target::Target;

/// Reads the kubeconfig: that of the flag has to be there, and those of the environment are merged as far
/// as they are there.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn read(target: &Target) -> anyhow::Result<Kubeconfig> {
    if let Some(path) = &target.kubeconfig {
        return Ok(Kubeconfig::read_from(path)?);
    }
    let named: Vec<_> = env::var_os("KUBECONFIG")
        .iter()
        .flat_map(env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let paths = match named.is_empty() {
        true => default_path().into_iter().collect(),
        false => named,
    };
    merged(&paths)
}

fn default_path() -> Option<PathBuf> {
    Some(env::home_dir()?.join(".kube").join("config"))
}

/// As kubectl merges them: what comes first counts, and a file that is not there is passed over.
fn merged(paths: &[PathBuf]) -> anyhow::Result<Kubeconfig> {
    let mut all = Kubeconfig::default();
    for path in paths {
        match Kubeconfig::read_from(path) {
            Ok(mut one) => {
                // An empty one is none.
                one.current_context = one.current_context.filter(|name| !name.is_empty());
                all = all.merge(one)?;
            }
            Err(KubeconfigError::ReadConfig(error, _))
                if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// Where the API server is, and how it is reached.
///
/// # Errors
/// When that is said nowhere, or what is said cannot be used.
pub(super) fn configuration(target: &Target) -> anyhow::Result<Config> {
    let file = read(target)?;
    let Some(chosen) = choose(&file, target)? else {
        // As it is for those who run in a pod.
        let mut config = Config::incluster()
            .context("no cluster is configured: use a kubeconfig, a context or --server")?;
        change_user(&mut config.auth_info, target);
        return Ok(config);
    };
    let mut config = connect(&chosen.cluster)?;
    config.default_namespace = chosen
        .namespace
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    config.auth_info = chosen.user;
    if let Some(exec) = &mut config.auth_info.exec
        && exec.provide_cluster_info
    {
        exec.cluster = Some(ExecAuthCluster::try_from(&chosen.cluster)?);
    }
    Ok(config)
}

/// What of a kubeconfig is meant.
#[derive(Debug)]
struct Chosen {
    cluster: Cluster,
    user: AuthInfo,
    namespace: Option<String>,
}

/// The cluster and the user of the context, changed by the flags. None when no API server is named.
fn choose(file: &Kubeconfig, target: &Target) -> anyhow::Result<Option<Chosen>> {
    let named = target.context.as_ref();
    let current = file.current_context.as_ref();
    let context = match named.or(current.filter(|name| !name.is_empty())) {
        Some(name) => {
            let mut contexts = file.contexts.iter();
            let found = contexts.find(|one| one.name == *name);
            match found.and_then(|one| one.context.clone()) {
                Some(context) => context,
                None => bail!("the kubeconfig has no context {name:?}"),
            }
        }
        None => Context::default(),
    };
    let mut cluster = match target.cluster.as_ref().unwrap_or(&context.cluster).as_str() {
        "" => Cluster::default(),
        name => {
            let mut clusters = file.clusters.iter();
            let found = clusters.find(|one| one.name == name);
            match found.and_then(|one| one.cluster.clone()) {
                Some(cluster) => cluster,
                None => bail!("the kubeconfig has no cluster {name:?}"),
            }
        }
    };
    let mut user = AuthInfo::default();
    if let Some(name) = target.user.as_ref().or(context.user.as_ref()) {
        let mut users = file.auth_infos.iter();
        let found = users.find(|one| one.name == *name);
        match found.and_then(|one| one.auth_info.clone()) {
            Some(found) => user = found,
            None if target.user.is_some() => bail!("the kubeconfig has no user {name:?}"),
            // As kubectl has it: nobody in particular.
            None => {}
        }
    }
    change_cluster(&mut cluster, target);
    change_user(&mut user, target);
    let is_named = cluster
        .server
        .as_ref()
        .is_some_and(|server| !server.is_empty());
    Ok(is_named.then_some(Chosen {
        cluster,
        user,
        namespace: context.namespace,
    }))
}

fn change_cluster(cluster: &mut Cluster, target: &Target) {
    if let Some(server) = &target.server {
        cluster.server = Some(server.clone());
        // The name was that of the other server.
        cluster.tls_server_name = None;
    }
    if let Some(name) = &target.tls_server_name {
        cluster.tls_server_name = Some(name.clone());
    }
    if let Some(proxy) = &target.proxy_url {
        cluster.proxy_url = Some(proxy.clone());
    }
    if let Some(insecure) = target.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(insecure);
        if insecure && target.certificate_authority.is_none() {
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
    }
    if let Some(path) = &target.certificate_authority {
        cluster.certificate_authority = Some(text(path));
        cluster.certificate_authority_data = None;
    }
}

fn change_user(user: &mut AuthInfo, target: &Target) {
    if let Some(token) = &target.token {
        user.token = Some(token.clone().into());
        (user.token_file, user.exec, user.auth_provider) = (None, None, None);
    }
    if let Some(name) = &target.username {
        user.username = Some(name.clone());
    }
    if let Some(password) = &target.password {
        user.password = Some(password.clone().into());
    }
    if let Some(path) = &target.client_certificate {
        user.client_certificate = Some(text(path));
        user.client_certificate_data = None;
    }
    if let Some(path) = &target.client_key {
        user.client_key = Some(text(path));
        user.client_key_data = None;
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How the API server of this cluster is reached. kube's own way from a kubeconfig there compares `NO_PROXY`
/// with the proxy's address instead of the API server's, and refuses some that kubectl takes.
fn connect(cluster: &Cluster) -> anyhow::Result<Config> {
    let server = cluster.server.as_deref().unwrap_or_default();
    let authority = ExecAuthCluster::try_from(cluster)?
        .certificate_authority_data
        .filter(|pem| !pem.trim_ascii().is_empty());
    let insecure = cluster.insecure_skip_tls_verify.unwrap_or_default();
    // kubectl takes addresses without a scheme, too.
    let url = match server.contains("://") {
        true => server.to_owned(),
        false if insecure || authority.is_some() => format!("https://{server}"),
        false => format!("http://{server}"),
    };
    let url = url
        .parse()
        .with_context(|| format!("{server:?} is not the address of a server"))?;
    let proxy = proxy::choose(&url, cluster.proxy_url.as_deref(), |name| {
        env::var(name).ok()
    })?;
    let mut config = Config::new(url);
    config.proxy_url = proxy;
    config.accept_invalid_certs = insecure;
    config.tls_server_name = cluster
        .tls_server_name
        .clone()
        .filter(|name| !name.is_empty());
    if let Some(pem) = authority {
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .map(|certificate| certificate.map(|der| der.to_vec()))
            .collect::<Result<_, _>>()
            .context("the certificate authority cannot be read")?;
        config.root_cert = Some(certificates);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
apiVersion: v1
kind: Config
current-context: blue
contexts:
- name: blue
  context: {cluster: one, user: bob, namespace: shop}
- name: green
  context: {cluster: two, user: nobody}
clusters:
- name: one
  cluster: {server: "https://10.0.0.1:6443", tls-server-name: one.example.com}
- name: two
  cluster: {server: "https://10.0.0.2:6443", proxy-url: "socks5://near"}
users:
- name: bob
  user: {token: b, client-certificate-data: Yg==, client-key-data: Yg==}
- name: ann
  user: {tokenFile: /a}
"#;

    fn chosen(change: impl FnOnce(&mut Target)) -> anyhow::Result<Option<Chosen>> {
        let mut target = Target::default();
        change(&mut target);
        choose(&Kubeconfig::from_yaml(FILE).unwrap(), &target)
    }

    #[test]
    fn the_context_says_cluster_user_and_namespace() {
        let blue = chosen(|_| {}).unwrap().unwrap();
        assert_eq!(blue.namespace.as_deref(), Some("shop"));
        assert!(blue.user.token.is_some());
        let config = connect(&blue.cluster).unwrap();
        assert_eq!(config.cluster_url, "https://10.0.0.1:6443/");
        assert_eq!(config.tls_server_name.as_deref(), Some("one.example.com"));
        let green = chosen(|target| target.context = Some("green".into()));
        let green = green.unwrap().unwrap();
        assert!(green.user.token.is_none() && green.namespace.is_none());
        let proxy = connect(&green.cluster).unwrap().proxy_url.unwrap();
        assert_eq!(proxy, "socks5://near:1080/");
    }

    #[test]
    fn what_is_named_has_to_be_there() {
        for change in [
            |target: &mut Target| target.context = Some("red".into()),
            |target: &mut Target| target.cluster = Some("red".into()),
            |target: &mut Target| target.user = Some("red".into()),
        ] {
            let error = chosen(change).unwrap_err().to_string();
            assert!(error.contains("\"red\""), "{error}");
        }
        let nowhere = choose(&Kubeconfig::default(), &Target::default());
        assert!(nowhere.unwrap().is_none());
    }

    #[test]
    fn flags_go_before_the_file() {
        let changed = chosen(|target| {
            target.server = Some("https://api.example.com".into());
            target.user = Some("ann".into());
            target.token = Some("t".into());
            target.client_certificate = Some("/c".into());
            target.certificate_authority = Some("/ca".into());
            target.proxy_url = Some("http://proxy.example.com:3128".into());
        });
        let changed = changed.unwrap().unwrap();
        assert_eq!(
            changed.cluster.server.as_deref(),
            Some("https://api.example.com")
        );
        assert_eq!(changed.cluster.tls_server_name, None);
        assert_eq!(
            changed.cluster.proxy_url.as_deref(),
            Some("http://proxy.example.com:3128")
        );
        assert_eq!(
            changed.cluster.certificate_authority.as_deref(),
            Some("/ca")
        );
        assert!(changed.user.token.is_some() && changed.user.token_file.is_none());
        assert_eq!(changed.user.client_certificate.as_deref(), Some("/c"));
        let alone = Target {
            server: Some("http://localhost:8001".into()),
            ..Target::default()
        };
        let alone = choose(&Kubeconfig::default(), &alone).unwrap().unwrap();
        let url = connect(&alone.cluster).unwrap().cluster_url;
        assert_eq!(url, "http://localhost:8001/");
    }

    #[test]
    fn a_file_that_is_not_there_is_passed_over() {
        let missing = PathBuf::from("/nonexistent/kubeconfig");
        let folder = std::env::temp_dir().join(format!("kubectl-pi-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let present = folder.join("config");
        std::fs::write(&present, FILE).unwrap();
        let all = merged(&[missing.clone(), present.clone()]).unwrap();
        assert_eq!(all.current_context.as_deref(), Some("blue"));
        assert!(merged(&[missing]).unwrap().contexts.is_empty());
        std::fs::write(&present, "contexts: 7").unwrap();
        assert!(merged(&[present]).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
