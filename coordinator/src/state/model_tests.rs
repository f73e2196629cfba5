//! Every history of a small world, not some by chance: two coordinators on one row, workers that crash, messages that are
//! lost, doubled and late. Each state is looked at once; with fencing switched off the same search must find a fault.

use std::collections::{HashSet, VecDeque};

use super::*;

/// Workers that may all believe they hold the task.
const WORKERS: u8 = 2;
/// Leases after which the world ends: a holder and its successor, so that the first may come back late.
const LEASES_MAX: i64 = 2;
/// Messages on their way at once.
const MESSAGES_MAX: usize = 2;
/// Time stands still at this; a lease runs out as soon as somebody looks, so that every order of events is there.
const NOW_MS: i64 = 1;

/// What is on its way, or in the hands of a coordinator that has read the row and not yet written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    Lease {
        worker: u8,
    },
    Commit {
        worker: u8,
        token: i64,
    },
    Release {
        token: i64,
    },
    Expire,
    /// To a worker: the task is yours.
    Granted {
        worker: u8,
        token: i64,
    },
    /// To a worker: your result counts.
    Accepted {
        worker: u8,
        token: i64,
    },
    /// To a worker: it is not yours any more.
    Refused {
        worker: u8,
        token: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    row: Key,
    /// Under which lease the result was made that counts.
    stored: Option<i64>,
    /// What each worker works under.
    workers: [Option<i64>; WORKERS as usize],
    /// What each coordinator has read and is about to decide on.
    coordinators: [Option<(Message, Key)>; 2],
    messages: Vec<Message>,
}

/// A row, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    state: TaskState,
    token: i64,
    holder: u8,
}

impl Key {
    fn row(self) -> TaskRow {
        let mut row = TaskRow::new(NOW_MS);
        row.token = LeaseToken(self.token);
        row.attempt = u32::try_from(self.token).unwrap();
        row.phase = match self.state {
            TaskState::Ready => Phase::Ready {
                not_before_ms: NOW_MS,
            },
            TaskState::Leased => Phase::Leased {
                session: session(self.holder),
                expires_ms: NOW_MS,
            },
            TaskState::Committed => Phase::Committed,
            TaskState::Dead => Phase::Dead,
            TaskState::Cancelled => Phase::Cancelled,
        };
        row
    }

    fn of(row: &TaskRow) -> Self {
        let holder = match &row.phase {
            Phase::Leased { session: held, .. } => {
                (0..WORKERS).find(|number| session(*number) == *held).unwrap()
            }
            _ => 0,
        };
        Self {
            state: row.phase.state(),
            token: row.token.0,
            holder,
        }
    }
}

fn session(number: u8) -> SessionId {
    format!("0198c0de-0000-7000-8000-0000000000{number:02x}")
        .parse()
        .unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            row: Key::of(&TaskRow::new(NOW_MS)),
            stored: None,
            workers: [None; WORKERS as usize],
            coordinators: [None; 2],
            messages: vec![],
        }
    }

    /// Every world that one step may make of this one.
    fn next(&self, fenced: bool) -> Result<Vec<Self>, String> {
        let mut next = vec![];
        for (worker, held) in self.workers.iter().enumerate() {
            let worker_id = u8::try_from(worker).unwrap();
            match *held {
                None => next.extend(self.sending(Message::Lease { worker: worker_id })),
                Some(token) => {
                    next.extend(self.sending(Message::Commit {
                        worker: worker_id,
                        token,
                    }));
                    next.extend(self.sending(Message::Release { token }));
                    // It dies, and what it sent is still on its way.
                    let mut crashed = self.clone();
                    crashed.workers[worker] = None;
                    next.push(crashed);
                }
            }
        }
        next.extend(self.delivered(Message::Expire));
        for place in 0..self.messages.len() {
            for stays in [false, true] {
                let (mut world, message) = (self.clone(), self.messages[place]);
                if !stays {
                    world.messages.remove(place);
                    next.push(world.clone());
                }
                next.extend(world.delivered(message));
            }
        }
        for coordinator in 0..2 {
            if let Some((message, read)) = self.coordinators[coordinator] {
                let mut world = self.clone();
                world.coordinators[coordinator] = None;
                // It dies between reading and writing.
                next.push(world.clone());
                world.decide(message, read, fenced)?;
                next.push(world);
            }
        }
        Ok(next)
    }

    fn sending(&self, message: Message) -> Option<Self> {
        let has_room = self.messages.len() < MESSAGES_MAX && !self.messages.contains(&message);
        has_room.then(|| {
            let mut world = self.clone();
            world.send(message);
            world
        })
    }

    fn send(&mut self, message: Message) {
        if self.messages.len() < MESSAGES_MAX && !self.messages.contains(&message) {
            self.messages.push(message);
            self.messages.sort();
        }
    }

    /// A message arrives: at a worker at once, at either coordinator as something to decide.
    fn delivered(&self, message: Message) -> Vec<Self> {
        let mut world = self.clone();
        match message {
            Message::Granted { worker, token } => {
                // A grant that comes late or twice starts nothing that has a successor here already.
                let held = &mut world.workers[usize::from(worker)];
                *held = Some(held.map_or(token, |held| held.max(token)));
                vec![world]
            }
            Message::Accepted { worker, token } | Message::Refused { worker, token } => {
                let held = &mut world.workers[usize::from(worker)];
                *held = held.filter(|held| *held != token);
                vec![world]
            }
            _ => {
                let free = (0..2).filter(|place| self.coordinators[*place].is_none());
                let taken = free.map(|place| {
                    let mut world = self.clone();
                    world.coordinators[place] = Some((message, self.row));
                    world
                });
                taken.collect()
            }
        }
    }

    /// A coordinator decides on the row as it read it, and writes by compare-and-set on state and token.
    fn decide(&mut self, message: Message, read: Key, fenced: bool) -> Result<(), String> {
        let row = read.row();
        let named = |token: i64| if fenced { LeaseToken(token) } else { row.token };
        let event = match message {
            Message::Lease { worker } if read.token < LEASES_MAX => TaskEvent::Lease {
                session: session(worker),
                lease_ms: 0,
            },
            Message::Commit { token, .. } => TaskEvent::Commit { token: named(token) },
            Message::Release { token } => TaskEvent::Release { token: named(token) },
            Message::Expire => TaskEvent::Expire,
            _ => return Ok(()),
        };
        let decision = super::decide(&row, event, NOW_MS);
        let is_unchanged = (self.row.state, self.row.token) == (read.state, read.token);
        match (decision, message) {
            (Ok(_), _) if !is_unchanged => {}
            (Ok(decision), _) => {
                self.row = Key::of(&decision.row);
                self.answer(message, &decision)?;
            }
            (Err(_), Message::Commit { worker, token }) => self.send(Message::Refused { worker, token }),
            (Err(_), _) => {}
        }
        Ok(())
    }

    fn answer(&mut self, message: Message, decision: &Decision) -> Result<(), String> {
        match message {
            Message::Lease { worker } => {
                let token = decision.row.token.0;
                self.send(Message::Granted { worker, token });
            }
            Message::Commit { worker, token } => {
                if decision.actions.contains(&Action::StoreResult)
                    && let Some(before) = self.stored.replace(token)
                {
                    return Err(format!(
                        "the result of lease {before} was replaced by that of {token}"
                    ));
                }
                if self.stored != Some(token) {
                    return Err(format!(
                        "lease {token} was told it counts, and {:?} does",
                        self.stored
                    ));
                }
                self.send(Message::Accepted { worker, token });
            }
            _ => {}
        }
        Ok(())
    }

    /// What must hold whatever has happened.
    fn check(&self) -> Result<(), String> {
        if (self.row.state == TaskState::Committed) != self.stored.is_some() {
            return Err(format!(
                "the task is {} and {:?} counts",
                self.row.state.as_str(),
                self.stored
            ));
        }
        let row = self.row.row();
        let lease = TaskEvent::Lease {
            session: session(0),
            lease_ms: 0,
        };
        let goes_on = [lease, TaskEvent::Expire].map(|event| super::decide(&row, event, NOW_MS).is_ok());
        if self.stored.is_none() && goes_on == [false, false] {
            return Err("nobody can ever take the task again".to_owned());
        }
        Ok(())
    }
}

/// Looks at every world that can come about; answers how many there are, or the first fault.
fn explore(fenced: bool) -> Result<usize, String> {
    let mut seen = HashSet::from([World::new()]);
    let mut queue = VecDeque::from([World::new()]);
    while let Some(world) = queue.pop_front() {
        for next in world.next(fenced)? {
            next.check()?;
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_crashes_losses_and_repeats_commits_twice_or_lies_to_a_worker() {
    let worlds = explore(true).unwrap();
    assert!(
        worlds > 100_000,
        "only {worlds} worlds: the search looked at too little"
    );
}

#[test]
fn without_fencing_the_search_finds_a_fault() {
    explore(false).unwrap_err();
}
