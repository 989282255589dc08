//! Hosts in words: where a URL or an address leads, as far as its text says.

use std::net::IpAddr;

/// Where a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is the container itself.
    Loopback,
    /// It is in the cluster or in a private network.
    Private,
    /// It is the metadata service of a cloud.
    Metadata,
    /// It is anywhere else.
    External,
}

/// Where a host is. A name with no dot is one of the cluster, and so is one below a domain that no public name has.
pub(super) fn reach(host: &str) -> Reach {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return match ip {
            ip if ip.is_loopback() || ip.is_unspecified() => Reach::Loopback,
            IpAddr::V4(ip) if ip.is_link_local() => Reach::Metadata,
            IpAddr::V4(ip) if ip.is_private() => Reach::Private,
            // RFC 6598: the addresses of pods in some clusters.
            IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => {
                Reach::Private
            }
            IpAddr::V6(ip) if ip.segments()[..2] == [0xfd00, 0x0ec2] => Reach::Metadata,
            IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Reach::Private,
            _ => Reach::External,
        };
    }
    // An address can be written as one number: http://2852039166/.
    let is_number = bare.bytes().all(|byte| byte.is_ascii_digit()) || bare.starts_with("0x");
    let below = [".svc", ".local", ".internal", ".localdomain"];
    match bare.as_str() {
        "localhost" => Reach::Loopback,
        "metadata.google.internal" | "metadata" | "instance-data" => Reach::Metadata,
        _ if is_number => Reach::External,
        name if !name.contains('.') || below.iter().any(|domain| name.ends_with(domain)) => {
            Reach::Private
        }
        _ => Reach::External,
    }
}

/// The host of a URL.
pub(super) fn host_of_url(word: &str) -> Option<&str> {
    let (scheme, rest) = word.split_once("://")?;
    if !scheme.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Some(without_port(host))
}

/// The host of an address: `IP`, `HOST:PORT`, `USER@HOST`, `USER@HOST:PATH`.
pub(super) fn host_of_address(word: &str) -> Option<&str> {
    let is_host = |host: &str| {
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !host.is_empty() && host.bytes().all(of_host) || is_ip(host)
    };
    if is_ip(word) {
        return Some(word);
    }
    // A network, as scanners take it.
    if let Some((ip, bits)) = word.split_once('/')
        && is_ip(ip)
        && bits.parse::<u8>().is_ok()
    {
        return Some(ip);
    }
    if let Some((host, rest)) = word.rsplit_once(':') {
        let port = rest.split('/').next().unwrap_or_default();
        // 10:30 is a time, and 8080:80 two ports.
        let is_number = host.bytes().all(|byte| byte.is_ascii_digit());
        if port.parse::<u16>().is_ok() && is_host(host) && !is_number {
            return Some(host);
        }
    }
    let (user, host) = word.split_once('@')?;
    let host = host.split(':').next().unwrap_or_default();
    (is_host(user) && is_host(host)).then_some(host)
}

fn is_ip(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    let host = match host.strip_prefix('[') {
        Some(ip) => ip.split(']').next(),
        None => host.split(':').next(),
    };
    host.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_near_or_far() {
        for (word, expected) in [
            ("http://localhost:8080/x", Reach::Loopback),
            ("http://127.0.0.1/", Reach::Loopback),
            ("http://[::1]:80/", Reach::Loopback),
            ("https://u:p@db:5432/x", Reach::Private),
            ("https://10.0.0.4:10250/pods", Reach::Private),
            ("https://kubernetes.default.svc/api", Reach::Private),
            ("redis://100.64.3.4", Reach::Private),
            ("http://169.254.169.254/latest", Reach::Metadata),
            ("http://metadata.google.internal/", Reach::Metadata),
            ("http://[fd00:ec2::254]/", Reach::Metadata),
            ("http://203.0.113.9/i.sh", Reach::External),
            ("https://git.example:443/x", Reach::External),
            ("http://localhost@203.0.113.9/", Reach::External),
            ("http://2852039166/", Reach::External),
            ("http://0xa9fea9fe/", Reach::External),
            ("http://localhost.evil.example/", Reach::External),
        ] {
            assert_eq!(reach(host_of_url(word).unwrap()), expected, "{word}");
        }
        for (word, expected) in [
            ("10.2.0.7", Reach::Private),
            ("10.0.0.0/8", Reach::Private),
            ("db:5432", Reach::Private),
            ("::1", Reach::Loopback),
            ("[::1]:80", Reach::Loopback),
            ("root@203.0.113.9:/x", Reach::External),
            ("pool.example:3333", Reach::External),
        ] {
            assert_eq!(reach(host_of_address(word).unwrap()), expected, "{word}");
        }
        for word in [
            "shop", "a:b", "7:8:9", "8080:80", "a@", "@b", "x/24", "://x",
        ] {
            assert_eq!(host_of_address(word), None, "{word}");
        }
    }
}
