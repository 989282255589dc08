//! Who may be connected to a server, and how much of its memory their requests may fill.
//!
//! Clients are told apart by address. A new connection always gets a place: when there is none left, the
//! idlest connection of the address that has most is closed for it. So a few addresses that open many
//! connections take places only from each other, and a kubelet, an API server or a Prometheus that
//! shares an address with them still gets its place for as long as it takes to ask and to read the answer.
//! Handshakes take turns between the addresses, a few at a time, so that those of a few addresses do not delay the others.
//! The limits of a port are set where it is opened: in `lib.rs` of the agent, in `server.rs` of the webhook and in
//! [`crate::ops`].

mod handshakes;
mod table;

use std::{
    convert::Infallible,
    io::{Error, ErrorKind, IoSlice, Result},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum_server::accept::Accept;
use futures::{future::BoxFuture, task::AtomicWaker};
use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Notify, oneshot},
};
use tower_http::add_extension::AddExtension;

use handshakes::HandshakeQueue;
use table::{BodyPermit, ConnectionTable, Id};

/// The bounds of one server.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many connections may be open. An eighth of the places is for addresses that have none.
    pub connections: usize,
    /// How many requests may be in hand; one address may have half of them. A further one is answered
    /// with 503, unless another address has more of them than the one it comes from.
    pub requests: usize,
    /// How many bytes the bodies of all requests in hand may hold; further requests wait. One address
    /// may take an eighth of it.
    pub bodies: usize,
    /// How long a client may take for its TLS handshake; without TLS, for the head of its first request.
    pub greeting: Duration,
    /// How long a client may idle after its handshake and between its requests, and take for the head of the next.
    pub idle: Duration,
}

impl Bounds {
    /// For a port with few clients, each of which may have many requests open, one to a connection, and
    /// keeps its connections.
    pub const MANY: Self = Self {
        connections: 1024,
        requests: 1024,
        bodies: 24 * 1024 * 1024,
        greeting: Duration::from_secs(5),
        idle: Duration::from_secs(120),
    };

    /// For a port that is read from time to time, so that nobody needs to keep a connection to it.
    pub const FEW: Self = Self {
        connections: 128,
        requests: 128,
        bodies: 256 * 1024,
        greeting: Duration::from_secs(5),
        idle: Duration::from_secs(5),
    };

    fn places_for_newcomers(&self) -> usize {
        self.connections / 8
    }

    fn requests_of_one(&self) -> usize {
        self.requests / 2
    }

    fn bodies_of_one(&self) -> usize {
        self.bodies / 8
    }
}

/// How many handshakes go on before the server looks at its other connections again. While it has much to do, a round of
/// those takes milliseconds: an API server that opens a hundred connections at the same time would wait for seconds
/// if only one handshake went on in each.
const AT_ONCE: usize = 8;

/// What any body is taken to hold, its request included.
const LEAST_BODY: usize = 4 * 1024;

/// All clients of one server.
#[derive(Debug, Clone)]
pub struct ConnectionLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    table: Mutex<ConnectionTable<CloseHandle>>,
    turns: Mutex<HandshakeQueue<Arc<CloseSignal>>>,
    /// Told whenever somebody waits for a turn.
    asked: Notify,
    /// Told whenever there is more room for bodies than before.
    roomier: Notify,
    closed: IntCounter,
}

impl ConnectionLimit {
    /// Nobody yet. Each connection that is closed to make room is counted.
    pub fn new(bounds: Bounds, closed: IntCounter) -> Self {
        Self(Arc::new(Inner {
            bounds,
            table: Mutex::new(ConnectionTable::new(bounds)),
            turns: Mutex::default(),
            asked: Notify::new(),
            roomier: Notify::new(),
            closed,
        }))
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable<CloseHandle>> {
        // Nothing panics while it holds this lock, and numbers stay numbers.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, HandshakeQueue<Arc<CloseSignal>>> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives those turns who wait for them, a few at a time, for as long as it is polled.
    pub(crate) async fn give_turns(&self) -> Infallible {
        loop {
            let next = self.turns().next(AT_ONCE);
            if next.is_empty() {
                self.0.asked.notified().await;
                continue;
            }
            for connection in next {
                connection.give_turn();
            }
            // Whatever else is ready goes before those after them.
            tokio::task::yield_now().await;
        }
    }

    /// A place for a new connection, and what tells that the one that was closed for it is gone.
    fn enter(&self, stream: TcpStream) -> Result<(Placed, Option<oneshot::Receiver<()>>)> {
        // An answer would else wait until the client has acknowledged what ended the handshake, up to 40 ms.
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?.ip().to_canonical();
        let exit = Arc::new(CloseSignal::default());
        let (alive, gone) = oneshot::channel();
        let leave = CloseHandle {
            exit: exit.clone(),
            gone,
        };
        let (id, closed) = self.table().enter(address, leave);
        let placed = Placed {
            stream,
            exit,
            place: Place(ConnectionInfo {
                limit: self.clone(),
                address,
                id,
                greeted: Arc::default(),
            }),
            waits: false,
            _alive: alive,
        };
        Ok((placed, closed.map(|closed| self.close(closed))))
    }

    fn close(&self, connection: CloseHandle) -> oneshot::Receiver<()> {
        self.0.closed.inc();
        connection.exit.open();
        connection.gone
    }
}

/// How to close a connection, and to know when it is.
#[derive(Debug)]
struct CloseHandle {
    exit: Arc<CloseSignal>,
    gone: oneshot::Receiver<()>,
}

/// Ends a connection whatever its task waits for, and tells it when it is its turn.
#[derive(Debug, Default)]
struct CloseSignal {
    is_open: AtomicBool,
    has_turn: AtomicBool,
    task: AtomicWaker,
}

impl CloseSignal {
    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.task.wake();
    }

    fn give_turn(&self) {
        self.has_turn.store(true, Ordering::Release);
        self.task.wake();
    }

    fn take_turn(&self) -> bool {
        self.has_turn.swap(false, Ordering::AcqRel)
    }

    /// Fails once it is open; until then the task is woken when it opens.
    fn pass(&self, cx: &mut Context<'_>) -> Result<()> {
        self.task.register(cx.waker());
        if self.is_open.load(Ordering::Acquire) {
            let why = "closed to make room for others";
            return Err(Error::new(ErrorKind::ConnectionAborted, why));
        }
        Ok(())
    }
}

/// Whose connection it is. Each request has it in its extensions.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    limit: ConnectionLimit,
    address: IpAddr,
    id: Id,
    /// Whether a request of it has begun.
    greeted: Arc<AtomicBool>,
}

impl ConnectionInfo {
    /// Where it comes from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A request in hand, if there may be one more.
    pub(crate) fn begin(&self) -> Option<RequestPermit<'_>> {
        let (begun, closed) = self.limit.table().begin(self.address, self.id);
        if let Some(closed) = closed {
            self.limit.close(closed);
        }
        self.greeted.store(true, Ordering::Relaxed);
        begun.then_some(RequestPermit(self))
    }
}

/// A request in hand; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct RequestPermit<'a>(&'a ConnectionInfo);

impl RequestPermit<'_> {
    /// Room for its body of so many bytes at most, as soon as there is some.
    pub(crate) async fn room(&self, bytes: usize) -> Room<'_> {
        let ConnectionInfo { limit, .. } = self.0;
        let most = limit.0.bounds.bodies_of_one();
        let bytes = bytes.max(LEAST_BODY).min(most);
        loop {
            let mut roomier = std::pin::pin!(limit.0.roomier.notified());
            // From here on nothing is missed.
            roomier.as_mut().enable();
            let turn = limit.table().room(self.0.address, self.0.id, bytes);
            match turn {
                BodyPermit::Granted => break,
                BodyPermit::Wait => roomier.await,
                BodyPermit::Close(connection) => {
                    limit.close(connection);
                    roomier.await;
                }
            }
        }
        Room {
            visit: self.0,
            bytes,
            is_reading: true,
        }
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.0.limit.table().end(self.0.address, self.0.id);
    }
}

/// The room of a body; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    visit: &'a ConnectionInfo,
    bytes: usize,
    is_reading: bool,
}

impl Room<'_> {
    /// The body is complete.
    pub(crate) fn read(&mut self) {
        if std::mem::take(&mut self.is_reading) {
            let ConnectionInfo { address, id, .. } = *self.visit;
            self.visit.limit.table().read(address, id, self.bytes);
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.read();
        let ConnectionInfo { limit, address, .. } = self.visit;
        limit.table().release(*address, self.bytes);
        limit.0.roomier.notify_waiters();
    }
}

/// The place of a connection among those of the server; it is free again when this is dropped.
#[derive(Debug)]
struct Place(ConnectionInfo);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.limit.table().leave(self.0.address, self.0.id);
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for ConnectionLimit {
    type Stream = Placed;
    type Service = AddExtension<S, ConnectionInfo>;
    type Future = BoxFuture<'static, Result<(Placed, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let entered = self.enter(stream);
        Box::pin(async move {
            let (placed, closed) = entered?;
            if let Some(gone) = closed {
                // So that no more of them have buffers than there are places. Its end is an error here.
                drop(gone.await);
            }
            let visit = placed.place.0.clone();
            Ok((placed, AddExtension::new(service, visit)))
        })
    }
}

/// A connection that has a place.
#[derive(Debug)]
pub struct Placed {
    stream: TcpStream,
    exit: Arc<CloseSignal>,
    place: Place,
    /// Whether it has asked for a turn and not had it yet.
    waits: bool,
    /// The last to be dropped: whoever waits for it finds the place free.
    _alive: oneshot::Sender<()>,
}

impl Placed {
    /// Ready when what was sent may be read: at once after the first request, until then when it is its turn.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let connection = &self.place.0;
        if connection.greeted.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        // Who sends nothing waits for no turn.
        ready!(self.stream.poll_read_ready(cx))?;
        if self.waits && self.exit.take_turn() {
            self.waits = false;
            return Poll::Ready(Ok(()));
        }
        if !std::mem::replace(&mut self.waits, true) {
            let mut turns = connection.limit.turns();
            turns.ask(connection.address, connection.id, self.exit.clone());
            connection.limit.0.asked.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.waits {
            let ConnectionInfo { address, id, .. } = self.place.0;
            self.place.0.limit.turns().withdraw(address, id);
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.exit.pass(cx)?;
        ready!(self.poll_turn(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.exit.pass(cx)?;
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
        self.exit.pass(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
