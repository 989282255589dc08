//! The debug port answers only requests for names of this host.
//!
//! After a user has opened a page of another site, that site can change the DNS entry of its own name to 127.0.0.1
//! (DNS rebinding). The browser then lets the page read what this port serves. But the requests still contain the
//! name of the site, so the port can refuse them.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{StatusCode, header::HOST, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Lets requests pass that ask for this host, on whatever port they were forwarded from.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let asked = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    // A proxy's request names it twice.
    let target = request.uri().authority().map(Authority::as_str);
    if asked.is_some_and(is_local) && target.is_none_or(is_local) {
        return next.run(request).await;
    }
    let why = "this port answers only to the host localhost, 127.0.0.1 or [::1]\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_local() {
        for host in [
            "localhost",
            "LocalHost:9091",
            "127.0.0.1",
            "127.0.0.1:43210",
            "[::1]",
            "[::1]:9091",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            ":9091",
            "curfew.example",
            "localhost.example",
            "127.0.0.1.example",
            "localhost:80@example",
            "10.0.0.7:9091",
            "0.0.0.0",
            "[::]:9091",
            "[fe80::1]",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
