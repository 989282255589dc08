//! Which proxy a connection takes, by the rules of Go's `net/http`, which are kubectl's.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use hyper::Uri;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

/// The most bytes that SOCKS5 has for a name, and for a password (RFC 1929).
const MAX_SECRET: usize = 255;

/// The kinds of proxies that there are.
const SCHEMES: [&str; 3] = ["http", "https", "socks5"];

/// As whom a SOCKS5 proxy is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ProxyUser {
    pub(super) name: String,
    pub(super) password: String,
}

/// The proxy for the API server of this address. `of_cluster` is the kubeconfig's, which holds for
/// whatever address; the environment's holds unless `NO_PROXY` exempts the address.
///
/// # Errors
/// When what should be a proxy's address is none.
pub(super) fn choose(
    server: &Uri,
    of_cluster: Option<&str>,
    env: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Uri>> {
    if let Some(proxy) = of_cluster.filter(|proxy| !proxy.is_empty()) {
        return Ok(Some(address("proxy-url", proxy)?));
    }
    let either = |upper: &str| {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        set(upper).or_else(|| set(&upper.to_ascii_lowercase()))
    };
    let variable = match server.scheme_str() {
        Some("http") => "HTTP_PROXY",
        _ => "HTTPS_PROXY",
    };
    let Some(proxy) = either(variable) else {
        return Ok(None);
    };
    let exempt = either("NO_PROXY").unwrap_or_default();
    let host = server.host().unwrap_or_default();
    let port = server.port_u16().unwrap_or(match server.scheme_str() {
        Some("http") => 80,
        _ => 443,
    });
    match is_exempt(host, port, &exempt) {
        true => Ok(None),
        false => Ok(Some(address(variable, &proxy)?)),
    }
}

/// The address that stands in this field. Errors show it without a password.
fn address(field: &str, text: &str) -> anyhow::Result<Uri> {
    let shown = without_password(text);
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = match scheme {
        // Names are resolved by the proxy either way.
        "socks5h" => "socks5",
        scheme => scheme,
    };
    ensure!(
        SCHEMES.contains(&scheme),
        "{field}: {shown:?} is not a supported proxy: use one of {}",
        SCHEMES.join(", ")
    );
    let invalid = || format!("{field}: {shown:?} is not the address of a proxy");
    let mut uri: Uri = format!("{scheme}://{rest}").parse().with_context(invalid)?;
    if scheme == "socks5" && uri.port().is_none() {
        let rest = rest.trim_end_matches('/');
        uri = format!("{scheme}://{rest}:1080")
            .parse()
            .with_context(invalid)?;
    }
    socks_user(&uri).with_context(|| format!("{field}: {shown:?}"))?;
    Ok(uri)
}

/// The address of a SOCKS5 proxy, and as whom it is asked; none where the proxy is of another kind, or asked as
/// nobody.
///
/// # Errors
/// When SOCKS5 has no room for it.
pub(super) fn socks_user(proxy: &Uri) -> anyhow::Result<Option<(Uri, ProxyUser)>> {
    let authority = proxy.authority().map_or("", |authority| authority.as_str());
    let (Some("socks5"), Some((user, address))) = (proxy.scheme_str(), authority.rsplit_once('@'))
    else {
        return Ok(None);
    };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |what: &str, text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        let decoded = decoded
            .ok()
            .with_context(|| format!("the {what} is not UTF-8"))?;
        ensure!(
            decoded.len() <= MAX_SECRET,
            "the {what} is longer than the {MAX_SECRET} bytes that SOCKS5 allows"
        );
        Ok(decoded.into_owned())
    };
    let user = ProxyUser {
        name: decoded("user name", name)?,
        password: decoded("password", password)?,
    };
    Ok(Some((format!("socks5://{address}").parse()?, user)))
}

/// The address as it may be shown.
fn without_password(text: &str) -> String {
    let Some((before, address)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
    let (scheme, user) = match before.split_once("://") {
        Some((scheme, user)) if scheme.bytes().all(of_scheme) => (format!("{scheme}://"), user),
        _ => (String::new(), before),
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}{name}:xxxxx@{address}"),
        None => text.to_owned(),
    }
}

/// Whether addresses of this host and port are reached without a proxy.
fn is_exempt(host: &str, port: u16, exempt: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    let mut entries = exempt
        .split(',')
        .map(|entry| entry.trim().to_ascii_lowercase());
    entries.any(|entry| !entry.is_empty() && matches(&entry, host, ip, port))
}

fn matches(entry: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return ip.is_some_and(|ip| network.contains(&ip));
    }
    if let Ok(one) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        return ip == Some(one);
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, wanted)) => (name, wanted.parse::<u16>().ok()),
        None => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(one) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return ip == Some(one);
    }
    if ip.is_some() || name.is_empty() {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host == name || host.ends_with(&format!(".{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_environment_exempts_as_for_go() {
        for (server, exempt, direct) in [
            ("https://10.0.0.1:6443", "", false),
            ("https://10.0.0.1:6443", "10.0.0.1", true),
            ("https://10.0.0.1:6443", "10.0.0.1:443", false),
            ("https://10.0.0.1:6443", "10.0.0.1:6443", true),
            ("https://10.0.0.1:6443", "10.0.0.0/24", true),
            ("https://10.0.1.1:6443", "10.0.0.0/24", false),
            ("https://10.0.1.1", "a, ,*", true),
            ("https://api.example.com", "example.com", true),
            ("https://api.example.com", ".example.com", true),
            ("https://example.com", ".example.com", false),
            ("https://example.com", "*.example.com", false),
            ("https://api.example.com", "*.example.com", true),
            ("https://api.example.com", "EXAMPLE.com:443", true),
            ("https://api.example.com", "example.com:6443", false),
            ("https://badexample.com", "example.com", false),
            ("https://localhost:6443", "", true),
            ("https://127.0.0.1:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://[fd00::1]:6443", ",,,", false),
        ] {
            let env = |name: &str| match name {
                "HTTPS_PROXY" => Some("http://proxy:3128".to_owned()),
                "NO_PROXY" => Some(exempt.to_owned()),
                _ => None,
            };
            let chosen = choose(&server.parse().unwrap(), None, env).unwrap();
            assert_eq!(chosen.is_none(), direct, "{server} {exempt:?}");
        }
    }

    #[test]
    fn the_kubeconfig_goes_first_and_holds_for_all() {
        let env = |name: &str| match name {
            "https_proxy" => Some("proxy:3128".to_owned()),
            "no_proxy" => Some("*".to_owned()),
            _ => None,
        };
        let server = "https://127.0.0.1:6443".parse().unwrap();
        let chosen = choose(&server, Some("socks5h://near:1080"), env).unwrap();
        assert_eq!(chosen.unwrap().to_string(), "socks5://near:1080/");
        assert!(choose(&server, None, env).unwrap().is_none());
        let lower = |name: &str| (name == "https_proxy").then(|| "proxy:3128".to_owned());
        let far = "https://10.0.0.1".parse().unwrap();
        let chosen = choose(&far, None, lower).unwrap();
        assert_eq!(chosen.unwrap().to_string(), "http://proxy:3128/");
    }

    #[test]
    fn a_password_goes_to_the_proxy_and_nowhere_else() {
        let server: Uri = "https://10.0.0.1".parse().unwrap();
        let chosen = |proxy: &str| choose(&server, Some(proxy), |_| None);
        let uri = chosen("socks5h://al%40ice:p%3Ass%21@near")
            .unwrap()
            .unwrap();
        let (address, user) = socks_user(&uri).unwrap().unwrap();
        assert_eq!(address, "socks5://near:1080/");
        assert_eq!((&*user.name, &*user.password), ("al@ice", "p:ss!"));
        for other in [
            "socks5://near",
            "http://alice:secret@near:3128",
            "alice:secret@near",
        ] {
            let uri = chosen(other).unwrap().unwrap();
            assert!(socks_user(&uri).unwrap().is_none(), "{other}");
        }

        let long = "s3cret".repeat(50);
        for (proxy, says) in [
            ("socks5://alice:s3cret@near:port", "is not the address"),
            ("ftp://alice:s3cret@near", "http, https, socks5"),
            ("alice:s3cret@ near", "is not the address"),
            ("socks5://alice:s3cret%ff@near", "UTF-8"),
            (&*format!("socks5://alice:{long}@near"), "255 bytes"),
        ] {
            let error = format!("{:#}", chosen(proxy).unwrap_err());
            assert!(error.starts_with("proxy-url: \""), "{error}");
            assert!(
                error.contains(says) && error.contains("alice:xxxxx@"),
                "{error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
        let env = |name: &str| (name == "HTTPS_PROXY").then(|| "socks4://near".to_owned());
        let error = choose(&server, None, env).unwrap_err().to_string();
        assert!(error.starts_with("HTTPS_PROXY: "), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_stands_there_no_password_is_shown(
            scheme in "(socks5h?://|https?://|[a-z0-9]{0,6}:?/{0,2})",
            name in "[ -~]{0,8}",
            host in "[ -~]{0,12}",
        ) {
            let text = format!("{scheme}{name}:S3CRET{name}@{host}");
            match address("proxy-url", &text) {
                Ok(uri) => prop_assert!(socks_user(&uri).is_ok()),
                Err(error) => prop_assert!(!format!("{error:#}").contains("S3CRET"), "{error:#}"),
            }
        }

        #[test]
        fn any_entry_of_the_exempt_is_read(exempt in "[ -~]{0,24}", host in "[a-z0-9.:\\[\\]]{0,12}", port: u16) {
            let _ = is_exempt(&host, port, &exempt);
            prop_assert!(is_exempt("127.0.0.1", port, &exempt));
            let all = format!("{exempt},*");
            prop_assert!(is_exempt("api.example.com", port, &all));
        }
    }
}
