//! How a port is opened.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections wait to be accepted at most; the kernel may allow fewer.
const BACKLOG: i32 = 1024;

/// Listens on this address. `[::]` takes connections over IPv4 too, whatever `net.ipv6.bindv6only` says, and on a machine
/// without IPv6 it means `0.0.0.0`.
///
/// # Errors
/// When the address cannot be bound.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match bind(address) {
        Err(error) if is_any_v6(address) && lacks_v6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if is_any_v6(address) {
        socket.set_only_v6(false)?;
    }
    // The connections of the process before may not have ended yet.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// The kernel has no IPv6 (EAFNOSUPPORT), or it is turned off (EADDRNOTAVAIL).
fn lacks_v6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};

    use super::*;

    /// Whether this machine has IPv6 does not matter: without it, only the second half is tried.
    #[test]
    fn any_address_takes_both_families() {
        let any = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let address = any.local_addr().unwrap();
        if address.is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).unwrap();
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    }

    #[test]
    fn one_address_is_only_that() {
        let one = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(one.local_addr().unwrap().ip().is_loopback());
        let taken = listen(one.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn without_v6_means_what_the_kernel_says_then() {
        assert!(lacks_v6(&io::Error::from_raw_os_error(97)));
        assert!(lacks_v6(&ErrorKind::AddrNotAvailable.into()));
        assert!(!lacks_v6(&ErrorKind::AddrInUse.into()));
    }
}
