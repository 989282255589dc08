//! In which order those are heard who have not asked for anything yet.
//!
//! What a handshake costs the server costs its client nothing, and a thousand of them at the same time would go
//! before everything that came later. So few of them are heard at a time, and the addresses take turns: who
//! opens many connections waits for their own, and who comes from elsewhere only for one of each address.
//! Whose requests are in hand, or were, does not wait here.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use super::table::Id;

/// Who waits. `H` is what the caller needs to let one go on.
#[derive(Debug)]
pub(super) struct HandshakeQueue<H> {
    /// The addresses that wait, each once; the next is the first.
    order: VecDeque<IpAddr>,
    waiting: HashMap<IpAddr, VecDeque<(Id, H)>>,
}

impl<H> Default for HandshakeQueue<H> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }
}

impl<H> HandshakeQueue<H> {
    /// A connection wants to be heard; it asks once for each turn.
    pub(super) fn ask(&mut self, address: IpAddr, id: Id, handle: H) {
        let own = self.waiting.entry(address).or_default();
        if own.is_empty() {
            self.order.push_back(address);
        }
        own.push_back((id, handle));
    }

    /// Whose turn it is: so many of those who wait, or all of them.
    pub(super) fn next(&mut self, most: usize) -> Vec<H> {
        std::iter::from_fn(|| self.one()).take(most).collect()
    }

    fn one(&mut self) -> Option<H> {
        let address = self.order.pop_front()?;
        let own = self.waiting.get_mut(&address)?;
        let next = own.pop_front();
        match own.is_empty() {
            true => drop(self.waiting.remove(&address)),
            false => self.order.push_back(address),
        }
        next.map(|(_, handle)| handle)
    }

    /// A connection is gone that waits.
    pub(super) fn withdraw(&mut self, address: IpAddr, id: Id) {
        let Some(own) = self.waiting.get_mut(&address) else {
            return;
        };
        own.retain(|(other, _)| *other != id);
        if own.is_empty() {
            self.waiting.remove(&address);
            self.order.retain(|other| *other != address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn addresses_take_turns() {
        let mut turns = HandshakeQueue::default();
        for id in 0..1000 {
            turns.ask(address(1), id, id);
        }
        turns.ask(address(2), 2000, 2000);
        turns.ask(address(3), 3000, 3000);
        assert_eq!(turns.next(4), [0, 2000, 3000, 1]);
        // Who comes back does not go before those who waited.
        turns.ask(address(3), 3001, 3001);
        turns.ask(address(1), 1000, 1000);
        assert_eq!(turns.next(3), [2, 3001, 3]);
        assert_eq!(turns.next(2000).len(), 1001 - 4);
        assert!(turns.order.is_empty() && turns.waiting.is_empty());
    }

    #[test]
    fn who_is_gone_has_no_turn() {
        let mut turns = HandshakeQueue::default();
        for id in 0..3 {
            turns.ask(address(1), id, id);
        }
        turns.ask(address(2), 7, 7);
        turns.withdraw(address(1), 0);
        turns.withdraw(address(2), 7);
        turns.withdraw(address(2), 7);
        turns.withdraw(address(1), 2);
        assert_eq!(turns.next(3), [1]);
        assert!(turns.order.is_empty() && turns.waiting.is_empty());
    }
}
