use std::{net::Ipv4Addr, time::Duration};

use proptest::prelude::*;

use super::*;

fn bounds() -> Bounds {
    Bounds {
        connections: 16,
        requests: 16,
        bodies: 800,
        greeting: Duration::from_secs(1),
        idle: Duration::from_secs(1),
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(10, 0, 0, last))
}

/// A book whose connections are told by their addresses, and what each of them has.
struct Seen {
    book: ConnectionTable<(u8, Id)>,
    next: Id,
}

impl Seen {
    fn new() -> Self {
        Self {
            book: ConnectionTable::new(bounds()),
            next: 0,
        }
    }

    fn enter(&mut self, from: u8) -> (Id, Option<(u8, Id)>) {
        self.next += 1;
        let handle = (from, self.next);
        let (id, closed) = self.book.enter(address(from), handle);
        // From here on both count alike, but for the ends of requests.
        self.next = id;
        self.rename(from, id);
        (id, closed)
    }

    fn rename(&mut self, from: u8, id: Id) {
        let client = self.book.clients.get_mut(&address(from)).unwrap();
        client.connections.get_mut(&id).unwrap().handle = (from, id);
    }

    fn open(&self, from: u8) -> usize {
        let client = self.book.clients.get(&address(from));
        client.map_or(0, |client| client.connections.len())
    }
}

#[test]
fn a_place_is_taken_from_whoever_has_most() {
    let mut seen = Seen::new();
    let mut first = Vec::new();
    for from in [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2] {
        let (id, closed) = seen.enter(from);
        first.push(id);
        assert_eq!(closed, None);
    }
    // The last places are for addresses that have none.
    assert_eq!(seen.enter(2).1, Some((1, first[0])));
    assert_eq!(seen.enter(3).1, None);
    assert_eq!(seen.enter(4).1, None);
    assert_eq!(seen.enter(5).1, Some((1, first[1])), "all are taken");
    assert_eq!((seen.open(1), seen.open(2)), (6, 7));
    // Where both would have equally many, who wants more gives.
    assert_eq!(seen.enter(1).1, Some((1, first[2])));
    assert_eq!(seen.enter(2).1, Some((2, first[8])));
}

#[test]
fn the_idlest_goes_first_and_the_busy_last() {
    let mut seen = Seen::new();
    let ids: Vec<_> = (0..14).map(|_| seen.enter(1).0).collect();
    assert!(seen.book.begin(address(1), ids[0]).0);
    for asks in [1, 2] {
        assert!(seen.book.begin(address(1), ids[asks]).0);
        seen.book.end(address(1), ids[asks]);
    }
    let mut closed: Vec<_> = ids[3..].to_vec();
    closed.extend([ids[1], ids[2]]);
    for id in closed {
        assert_eq!(seen.book.close_idlest(address(9)), Some((1, id)));
    }
    assert_eq!(seen.book.close_idlest(address(9)), Some((1, ids[0])));
    assert_eq!(seen.book.close_idlest(address(9)), None);
    seen.book.end(address(1), ids[0]);
    assert!(seen.book.clients.is_empty());
}

#[test]
fn whoever_has_few_requests_gets_one_more_when_there_are_too_many() {
    let mut seen = Seen::new();
    let [one, two, three] = [1, 2, 3].map(|from| seen.enter(from).0);
    for _ in 0..8 {
        assert_eq!(seen.book.begin(address(1), one), (true, None));
        assert_eq!(seen.book.begin(address(2), two), (true, None));
    }
    let begun = seen.book.begin(address(1), one);
    assert_eq!(begun, (false, None), "half of all is enough");
    seen.book.end(address(1), one);
    assert_eq!(seen.book.begin(address(3), three), (true, None));
    assert_eq!(seen.book.begin(address(3), three), (true, Some((2, two))));
}

#[test]
fn whoever_has_no_body_gets_room_from_the_slow() {
    let mut seen = Seen::new();
    let slow: Vec<_> = (1..=8)
        .map(|from| {
            let (id, _) = seen.enter(from);
            assert!(seen.book.begin(address(from), id).0);
            assert_eq!(seen.book.room(address(from), id, 100), BodyPermit::Granted);
            id
        })
        .collect();
    let (id, _) = seen.enter(9);
    assert!(seen.book.begin(address(9), id).0);
    for (from, id) in (1..8).zip(&slow) {
        seen.book.read(address(from), *id, 100);
    }
    // What is complete is left to be answered.
    let turn = seen.book.room(address(9), id, 50);
    assert_eq!(turn, BodyPermit::Close((8, slow[7])));
    assert_eq!(seen.book.room(address(9), id, 50), BodyPermit::Wait);
    seen.book.read(address(8), slow[7], 100);
    seen.book.release(address(8), 100);
    assert_eq!(seen.book.room(address(9), id, 50), BodyPermit::Granted);
    // Its own share is used up sooner than all there is.
    assert_eq!(seen.book.room(address(9), id, 51), BodyPermit::Wait);
    assert_eq!(seen.book.leaving, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(u8),
    CloseHandle(usize),
    Begin(usize),
    End(usize),
    Room(usize, usize),
    Read(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12u8).prop_map(Step::Enter),
        1 => (0..64usize).prop_map(Step::CloseHandle),
        4 => (0..64usize).prop_map(Step::Begin),
        2 => (0..64usize).prop_map(Step::End),
        4 => ((0..64usize), (1..=100usize)).prop_map(|(at, bytes)| Step::Room(at, bytes)),
        1 => (0..64usize).prop_map(Step::Read),
        1 => (0..64usize).prop_map(Step::Release),
    ]
}

/// A request in hand: whose, and the room of its body, if it has some, and whether it is still read.
type RequestPermit = (u8, Id, Option<(usize, bool)>);

proptest! {
    #[test]
    fn nothing_is_ever_more_than_its_bound(steps in prop::collection::vec(step(), 1..400)) {
        let mut seen = Seen::new();
        let (mut ids, mut in_hand) = (Vec::<(u8, Id)>::new(), Vec::<RequestPermit>::new());
        for step in steps {
            match step {
                Step::Enter(from) => {
                    let before = seen.open(from);
                    let (id, closed) = seen.enter(from);
                    if let Some((of, _)) = closed {
                        let others = seen.open(of);
                        prop_assert!(of == from || others >= before, "{of} had {others}, {from} {before}");
                    }
                    prop_assert!(seen.open(from) >= 1);
                    ids.push((from, id));
                }
                Step::CloseHandle(at) if !ids.is_empty() => {
                    let (from, id) = ids.swap_remove(at % ids.len());
                    seen.book.leave(address(from), id);
                }
                Step::Begin(at) if !ids.is_empty() => {
                    let (from, id) = ids[at % ids.len()];
                    if seen.book.begin(address(from), id).0 {
                        in_hand.push((from, id, None));
                    }
                }
                Step::Room(at, bytes) if !in_hand.is_empty() => {
                    let at = at % in_hand.len();
                    let (from, id, room) = &mut in_hand[at];
                    if room.is_none() && seen.book.room(address(*from), *id, bytes) == BodyPermit::Granted {
                        *room = Some((bytes, true));
                    }
                }
                Step::Read(at) if !in_hand.is_empty() => {
                    let at = at % in_hand.len();
                    if let (from, id, Some((bytes, reading @ true))) = &mut in_hand[at] {
                        *reading = false;
                        seen.book.read(address(*from), *id, *bytes);
                    }
                }
                Step::End(at) | Step::Release(at) if !in_hand.is_empty() => {
                    let (from, id, room) = in_hand.swap_remove(at % in_hand.len());
                    if let Some((bytes, reading)) = room {
                        if reading {
                            seen.book.read(address(from), id, bytes);
                        }
                        seen.book.release(address(from), bytes);
                    }
                    seen.book.end(address(from), id);
                }
                _ => {}
            }
            let book = &seen.book;
            let open: usize = book.clients.values().map(|client| client.connections.len()).sum();
            prop_assert_eq!(open, book.connections);
            prop_assert!(open <= bounds().connections);
            prop_assert_eq!(in_hand.len(), book.requests);
            let rooms = in_hand.iter().filter_map(|(_, _, room)| *room);
            prop_assert_eq!(rooms.map(|(bytes, _)| bytes).sum::<usize>(), book.bodies);
            prop_assert!(book.bodies <= bounds().bodies);
        }
        for (from, id, room) in in_hand {
            if let Some((bytes, reading)) = room {
                if reading {
                    seen.book.read(address(from), id, bytes);
                }
                seen.book.release(address(from), bytes);
            }
            seen.book.end(address(from), id);
        }
        for (from, id) in ids {
            seen.book.leave(address(from), id);
        }
        prop_assert!(seen.book.clients.is_empty());
        prop_assert_eq!((seen.book.connections, seen.book.bodies, seen.book.leaving), (0, 0, 0));
    }
}
