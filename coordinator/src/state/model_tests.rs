//! Every history of a small world, not some by chance: two coordinators on one row, workers that crash, messages that are
//! lost, doubled and late. Each state is looked at once; with fencing switched off the same search must find a fault. Second
//! attempts beside the first are searched apart, with fewer messages on their way: together there are too many worlds.

use std::collections::{HashSet, VecDeque};

use super::*;

/// Workers that may all believe they hold the task.
const WORKERS: u8 = 2;
/// Leases after which the world ends: a holder and its successor, so that the first may come back late.
const LEASES_MAX: i64 = 2;
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
    Straggle,
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

/// What may happen in a search.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Whether tokens are looked at.
    fenced: bool,
    /// Whether a second attempt may run beside the first.
    straggling: bool,
    /// Messages on their way at once.
    messages_max: usize,
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
    elder: Option<(i64, u8)>,
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
        row.elder = self.elder.map(|(token, holder)| Elder {
            token: LeaseToken(token),
            session: session(holder),
            expires_ms: NOW_MS,
        });
        row
    }

    fn of(row: &TaskRow) -> Self {
        let number_of = |held: &SessionId| (0..WORKERS).find(|number| session(*number) == *held).unwrap();
        let holder = match &row.phase {
            Phase::Leased { session, .. } => number_of(session),
            _ => 0,
        };
        let elder = row.elder.as_ref();
        Self {
            state: row.phase.state(),
            token: row.token.0,
            holder,
            elder: elder.map(|elder| (elder.token.0, number_of(&elder.session))),
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
    fn next(&self, rules: Rules) -> Result<Vec<Self>, String> {
        let mut next = vec![];
        for (worker, held) in self.workers.iter().enumerate() {
            let worker_id = u8::try_from(worker).unwrap();
            match *held {
                None => next.extend(self.sending(Message::Lease { worker: worker_id }, rules)),
                Some(token) => {
                    let worker = worker_id;
                    next.extend(self.sending(Message::Commit { worker, token }, rules));
                    next.extend(self.sending(Message::Release { token }, rules));
                    // It dies, and what it sent is still on its way.
                    let mut crashed = self.clone();
                    crashed.workers[usize::from(worker_id)] = None;
                    next.push(crashed);
                }
            }
        }
        next.extend(self.delivered(Message::Expire));
        if rules.straggling {
            next.extend(self.delivered(Message::Straggle));
        }
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
                world.decide(message, read, rules)?;
                next.push(world);
            }
        }
        Ok(next)
    }

    fn sending(&self, message: Message, rules: Rules) -> Option<Self> {
        let has_room = self.messages.len() < rules.messages_max && !self.messages.contains(&message);
        has_room.then(|| {
            let mut world = self.clone();
            world.send(message, rules);
            world
        })
    }

    fn send(&mut self, message: Message, rules: Rules) {
        if self.messages.len() < rules.messages_max && !self.messages.contains(&message) {
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
    fn decide(&mut self, message: Message, read: Key, rules: Rules) -> Result<(), String> {
        let row = read.row();
        let named = |token: i64| {
            if rules.fenced {
                LeaseToken(token)
            } else {
                row.token
            }
        };
        let event = match message {
            Message::Lease { worker } if read.token < LEASES_MAX => TaskEvent::Lease {
                session: session(worker),
                lease_ms: 0,
            },
            Message::Commit { token, .. } => TaskEvent::Commit { token: named(token) },
            Message::Release { token } => TaskEvent::Release { token: named(token) },
            Message::Expire => TaskEvent::Expire,
            Message::Straggle => TaskEvent::Straggle,
            _ => return Ok(()),
        };
        let decision = super::decide(&row, event, NOW_MS);
        let is_unchanged = (self.row.state, self.row.token) == (read.state, read.token);
        match (decision, message) {
            (Ok(_), _) if !is_unchanged => {}
            (Ok(decision), _) => {
                self.row = Key::of(&decision.row);
                self.answer(message, &decision, rules)?;
            }
            (Err(_), Message::Commit { worker, token }) => {
                self.send(Message::Refused { worker, token }, rules)
            }
            (Err(_), _) => {}
        }
        Ok(())
    }

    fn answer(&mut self, message: Message, decision: &Decision, rules: Rules) -> Result<(), String> {
        match message {
            Message::Lease { worker } => {
                let token = decision.row.token.0;
                self.send(Message::Granted { worker, token }, rules);
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
                self.send(Message::Accepted { worker, token }, rules);
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
fn explore(rules: Rules) -> Result<usize, String> {
    let mut seen = HashSet::from([World::new()]);
    let mut queue = VecDeque::from([World::new()]);
    while let Some(world) = queue.pop_front() {
        for next in world.next(rules)? {
            next.check()?;
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

const ONE_AT_A_TIME: Rules = Rules {
    fenced: true,
    straggling: false,
    messages_max: 2,
};
const TWO_BESIDE_EACH_OTHER: Rules = Rules {
    fenced: true,
    straggling: true,
    messages_max: 1,
};

fn explore_at_least(worlds_min: usize, rules: Rules) {
    let worlds = explore(rules).unwrap();
    assert!(
        worlds > worlds_min,
        "only {worlds} worlds: the search looked at too little"
    );
}

#[test]
fn no_order_of_crashes_losses_and_repeats_commits_twice_or_lies_to_a_worker() {
    explore_at_least(100_000, ONE_AT_A_TIME);
}

#[test]
fn nor_does_one_with_a_second_attempt_beside_the_first() {
    explore_at_least(100_000, TWO_BESIDE_EACH_OTHER);
}

#[test]
fn without_fencing_the_search_finds_a_fault() {
    for rules in [ONE_AT_A_TIME, TWO_BESIDE_EACH_OTHER] {
        explore(Rules {
            fenced: false,
            ..rules
        })
        .unwrap_err();
    }
}
