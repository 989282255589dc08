//! Who has how much of a server, and who has to give some of it back when there is none left.
//!
//! It decides and does nothing: the caller closes the connections that it names. Whoever has less of
//! something gets it before those who have more, so that those who take much can take it only from each
//! other. Times are ranks: of two events, the later one has the higher number.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use super::Bounds;

/// A connection, for as long as the process runs.
pub(super) type Id = u64;

/// All connections of a server. `H` is what the caller needs to close one of them.
#[derive(Debug)]
pub(super) struct ConnectionTable<H> {
    bounds: Bounds,
    clients: HashMap<IpAddr, Client<H>>,
    connections: usize,
    requests: usize,
    bodies: usize,
    /// How many bytes of bodies belong to connections that are closed and not yet gone.
    leaving: usize,
    now: u64,
}

/// Everything from one address.
#[derive(Debug)]
struct Client<H> {
    connections: BTreeMap<Id, Connection<H>>,
    requests: usize,
    bodies: usize,
}

#[derive(Debug)]
struct Connection<H> {
    handle: H,
    /// When it was opened, or when its last request ended.
    idle_since: u64,
    requests: usize,
    /// The room of bodies that are not complete yet.
    reading: usize,
}

/// Whether there is room for a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyPermit<H> {
    /// There is, and it is taken.
    Granted,
    /// There will be.
    Wait,
    /// There will be when this connection is closed.
    Close(H),
}

impl<H> Default for Client<H> {
    fn default() -> Self {
        Self {
            connections: BTreeMap::new(),
            requests: 0,
            bodies: 0,
        }
    }
}

impl<H> Client<H> {
    fn is_gone(&self) -> bool {
        self.connections.is_empty() && self.requests == 0 && self.bodies == 0
    }
}

impl<H> ConnectionTable<H> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            clients: HashMap::new(),
            connections: 0,
            requests: 0,
            bodies: 0,
            leaving: 0,
            now: 0,
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// A new connection, which always gets a place; and the one that has to be closed for it, if any.
    pub(super) fn enter(&mut self, address: IpAddr, handle: H) -> (Id, Option<H>) {
        let own = self.clients.get(&address);
        let own = own.map_or(0, |client| client.connections.len());
        let places = match own {
            0 => self.bounds.connections,
            _ => self.bounds.connections - self.bounds.places_for_newcomers(),
        };
        let closed = if self.connections >= places {
            self.close_idlest(address)
        } else {
            None
        };
        let id = self.tick();
        let connection = Connection {
            handle,
            idle_since: id,
            requests: 0,
            reading: 0,
        };
        let client = self.clients.entry(address).or_default();
        client.connections.insert(id, connection);
        self.connections += 1;
        (id, closed)
    }

    /// Takes away the idlest connection of the address that would have most with one more from `newcomer`.
    fn close_idlest(&mut self, newcomer: IpAddr) -> Option<H> {
        let of = |(address, client): &(&IpAddr, &Client<H>)| {
            let open = client.connections.len();
            // With equally many, who wants more gives.
            let wants = usize::from(**address == newcomer);
            let idlest = client.connections.values().map(|c| c.idle_since).min();
            (open + wants, wants, std::cmp::Reverse(idlest))
        };
        let (&address, client) = self
            .clients
            .iter()
            .filter(|(_, client)| !client.connections.is_empty())
            .max_by_key(of)?;
        let idlest = client
            .connections
            .iter()
            .min_by_key(|(_, connection)| (connection.requests > 0, connection.idle_since));
        let (&id, _) = idlest?;
        self.leave(address, id)
    }

    /// Strikes out a connection; nothing happens when it was before.
    pub(super) fn leave(&mut self, address: IpAddr, id: Id) -> Option<H> {
        let client = self.clients.get_mut(&address)?;
        let connection = client.connections.remove(&id)?;
        self.connections -= 1;
        self.leaving += connection.reading;
        self.forget(address);
        Some(connection.handle)
    }

    fn forget(&mut self, address: IpAddr) {
        if self.clients.get(&address).is_some_and(Client::is_gone) {
            self.clients.remove(&address);
        }
    }

    /// Whether a request may begin, and the connection that has to be closed for it, if any.
    pub(super) fn begin(&mut self, address: IpAddr, id: Id) -> (bool, Option<H>) {
        let own = self.clients.get(&address).map_or(0, |own| own.requests);
        if own >= self.bounds.requests_of_one() {
            return (false, None);
        }
        let mut closed = None;
        if self.requests >= self.bounds.requests {
            closed = self.close_largest(own + 1, |client| client.requests, |c| c.requests);
            if closed.is_none() {
                return (false, None);
            }
        }
        self.requests += 1;
        let client = self.clients.entry(address).or_default();
        client.requests += 1;
        if let Some(connection) = client.connections.get_mut(&id) {
            connection.requests += 1;
        }
        (true, closed)
    }

    /// Takes away the connection with most of something, of the address that has most of it and more than so much.
    /// Only what its open connections have is taken.
    fn close_largest(
        &mut self,
        more_than: usize,
        of_client: impl Fn(&Client<H>) -> usize,
        of_connection: impl Fn(&Connection<H>) -> usize,
    ) -> Option<H> {
        let has = |client: &Client<H>| client.connections.values().any(|c| of_connection(c) > 0);
        let (&address, client) = self
            .clients
            .iter()
            .filter(|(_, client)| of_client(client) > more_than && has(client))
            .max_by_key(|(_, client)| of_client(client))?;
        let connections = client.connections.iter();
        let (&id, _) = connections.max_by_key(|(_, connection)| of_connection(connection))?;
        self.leave(address, id)
    }

    /// A request that began has ended.
    pub(super) fn end(&mut self, address: IpAddr, id: Id) {
        let now = self.tick();
        self.requests -= 1;
        if let Some(client) = self.clients.get_mut(&address) {
            client.requests -= 1;
            if let Some(connection) = client.connections.get_mut(&id) {
                connection.requests -= 1;
                connection.idle_since = now;
            }
        }
        self.forget(address);
    }

    /// Room for a body of so many bytes of a request that has begun; not more than
    /// [`Bounds::bodies_of_one`] at once.
    pub(super) fn room(&mut self, address: IpAddr, id: Id, bytes: usize) -> BodyPermit<H> {
        let Some(client) = self.clients.get_mut(&address) else {
            return BodyPermit::Wait;
        };
        let own = client.bodies;
        if own > 0 && own + bytes > self.bounds.bodies_of_one() {
            return BodyPermit::Wait;
        }
        if self.bodies + bytes <= self.bounds.bodies {
            client.bodies += bytes;
            self.bodies += bytes;
            match client.connections.get_mut(&id) {
                Some(connection) => connection.reading += bytes,
                None => self.leaving += bytes,
            }
            return BodyPermit::Granted;
        }
        if self.bodies - self.leaving + bytes <= self.bounds.bodies {
            return BodyPermit::Wait;
        }
        // A body that is complete is answered soon, and so left alone.
        match self.close_largest(own, |client| client.bodies, |c| c.reading) {
            Some(handle) => BodyPermit::Close(handle),
            None => BodyPermit::Wait,
        }
    }

    /// A body of so many bytes is complete, or will never be.
    pub(super) fn read(&mut self, address: IpAddr, id: Id, bytes: usize) {
        let client = self.clients.get_mut(&address);
        match client.and_then(|client| client.connections.get_mut(&id)) {
            Some(connection) => connection.reading -= bytes,
            None => self.leaving -= bytes,
        }
    }

    /// The room of a body that was [read](Self::read) is free again.
    pub(super) fn release(&mut self, address: IpAddr, bytes: usize) {
        self.bodies -= bytes;
        if let Some(client) = self.clients.get_mut(&address) {
            client.bodies -= bytes;
        }
        self.forget(address);
    }
}

#[cfg(test)]
mod tests;
