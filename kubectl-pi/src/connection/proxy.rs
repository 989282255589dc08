//! Which proxy a connection takes, by the rules of Go's `net/http`, which are kubectl's.

use std::net::IpAddr;

use anyhow::Context;
use hyper::Uri;

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
        return Ok(Some(address(proxy)?));
    }
    let either = |upper: &str| {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        set(upper).or_else(|| set(&upper.to_ascii_lowercase()))
    };
    let proxy = match server.scheme_str() {
        Some("http") => either("HTTP_PROXY"),
        _ => either("HTTPS_PROXY"),
    };
    let Some(proxy) = proxy else {
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
        false => Ok(Some(address(&proxy)?)),
    }
}

fn address(text: &str) -> anyhow::Result<Uri> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let mut address = match scheme {
        // Names are resolved by the proxy either way.
        "socks5" | "socks5h" => format!("socks5://{rest}"),
        _ => format!("{scheme}://{rest}"),
    };
    let parse = |address: &str| {
        address
            .parse::<Uri>()
            .with_context(|| format!("{text:?} is no address of a proxy"))
    };
    let uri = parse(&address)?;
    if uri.scheme_str() == Some("socks5") && uri.port().is_none() {
        address = format!("{}:1080", address.trim_end_matches('/'));
        return parse(&address);
    }
    Ok(uri)
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
    if let Some((network, bits)) = entry.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>())
    {
        return ip.is_some_and(|ip| is_within(ip, network, bits));
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

fn is_within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (ip, network, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (
            u128::from(u32::from(ip)),
            u128::from(u32::from(network)),
            32,
        ),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (u128::from(ip), u128::from(network), 128),
        _ => return false,
    };
    bits <= width && (bits == 0 || (ip ^ network) >> (width - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
