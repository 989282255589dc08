//! Who may be connected to a server, and how much of its memory their requests may fill.
//!
//! Clients are told apart by address. What is bound for all of them together is bound for each of them
//! alone, too, and lower, so that one client that misbehaves leaves room for the others.

use std::{
    collections::HashMap,
    fmt,
    future::{Ready, ready},
    io::{Error, ErrorKind, IoSlice, Result},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum_server::accept::Accept;
use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// The bounds of a crowd.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many connections may be open; one more is closed at once.
    pub connections: usize,
    /// How many of them may come from one address.
    pub connections_of_one: usize,
    /// How many bytes the bodies of all requests in hand may hold; further requests wait. One address
    /// may take an eighth of it.
    pub bodies: usize,
    /// How long a client may take for its TLS handshake, and then again for the head of its first
    /// request. Later it may idle for longer.
    pub greeting: Duration,
}

impl Bounds {
    /// For a port with few clients, each of which may have many requests open, one to a connection.
    pub const MANY: Self = Self {
        connections: 1024,
        connections_of_one: 256,
        bodies: 24 * 1024 * 1024,
        greeting: Duration::from_secs(5),
    };

    /// For a port that is read from time to time.
    pub const FEW: Self = Self {
        connections: 128,
        connections_of_one: 32,
        bodies: 256 * 1024,
        ..Self::MANY
    };

    fn bodies_of_one(&self) -> usize {
        self.bodies / 8
    }
}

/// What any body is taken to hold, its request included.
const LEAST_BODY: usize = 4 * 1024;

/// All clients of one server.
#[derive(Clone)]
pub struct Crowd(Arc<Inner>);

struct Inner {
    bounds: Bounds,
    clients: Mutex<Clients>,
    bodies: Arc<Semaphore>,
    refused: IntCounter,
}

#[derive(Default)]
struct Clients {
    connections: usize,
    by_address: HashMap<IpAddr, Client>,
}

struct Client {
    connections: usize,
    bodies: Arc<Semaphore>,
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd")
            .field("bounds", &self.0.bounds)
            .finish_non_exhaustive()
    }
}

impl Crowd {
    /// Nobody yet. Each connection that is refused is counted.
    pub fn new(bounds: Bounds, refused: IntCounter) -> Self {
        Self(Arc::new(Inner {
            bounds,
            clients: Mutex::default(),
            bodies: Arc::new(Semaphore::new(bounds.bodies)),
            refused,
        }))
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, Clients> {
        // Nothing panics while it holds this lock, and numbers stay numbers.
        let clients = self.0.clients.lock();
        clients.unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection from there, if there is one.
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let bounds = &self.0.bounds;
        let mut clients = self.clients();
        let from_there = clients.by_address.get(&address);
        let from_there = from_there.map_or(0, |client| client.connections);
        if clients.connections >= bounds.connections || from_there >= bounds.connections_of_one {
            self.0.refused.inc();
            return None;
        }
        clients.connections += 1;
        let client = clients.by_address.entry(address).or_insert_with(|| Client {
            connections: 0,
            bodies: Arc::new(Semaphore::new(bounds.bodies_of_one())),
        });
        client.connections += 1;
        Some(Place {
            crowd: self.clone(),
            address,
        })
    }

    /// Room for a body of so many bytes at most from there, as soon as there is some.
    pub(crate) async fn room(&self, address: Option<SocketAddr>, bytes: usize) -> Room {
        let bytes = bytes.max(LEAST_BODY);
        let own = address.and_then(|address| {
            let clients = self.clients();
            let client = clients.by_address.get(&address.ip().to_canonical())?;
            Some(client.bodies.clone())
        });
        // Its own first: whoever has used that up stands in nobody else's way.
        Room {
            _own: match own {
                Some(own) => acquire(own, bytes.min(self.0.bounds.bodies_of_one())).await,
                None => None,
            },
            _shared: acquire(self.0.bodies.clone(), bytes.min(self.0.bounds.bodies)).await,
        }
    }
}

async fn acquire(semaphore: Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    // Nobody closes it.
    semaphore.acquire_many_owned(bytes).await.ok()
}

/// The room of a body; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _own: Option<OwnedSemaphorePermit>,
    _shared: Option<OwnedSemaphorePermit>,
}

/// The place of a connection in the crowd; it is free again when this is dropped.
#[derive(Debug)]
struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.crowd.clients();
        clients.connections -= 1;
        if let Some(client) = clients.by_address.get_mut(&self.address) {
            client.connections -= 1;
            if client.connections == 0 {
                clients.by_address.remove(&self.address);
            }
        }
    }
}

impl<S> Accept<TcpStream, S> for Crowd {
    type Stream = Placed;
    type Service = S;
    type Future = Ready<Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = stream
            .peer_addr()
            .and_then(|peer| match self.enter(peer.ip()) {
                Some(place) => Ok(Placed {
                    stream,
                    _place: place,
                }),
                None => Err(Error::new(ErrorKind::QuotaExceeded, "too many connections")),
            });
        ready(accepted.map(|stream| (stream, service)))
    }
}

/// A connection that has a place in the crowd.
#[derive(Debug)]
pub struct Placed {
    stream: TcpStream,
    _place: Place,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
