//! Wakes those who wait: long polls when a task of their kind can be leased, the copier when there is something to copy.
//!
//! Nothing here is truth. A wake-up that is lost costs one poll interval; the rows say what there is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use remaster_domain::TaskKind;
use tokio::sync::{Notify, watch};

/// Offers that other coordinators are told of at once: a message holds 8,000 bytes.
const TOLD_MAX: usize = 128;

/// Counts offers by kind; a poll looks again when a count of its kinds has moved.
pub(crate) type Offers = [u64; TaskKind::ALL.len()];

/// What a committed transaction means for those who wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects {
    /// Kinds of tasks that can be leased, with the time from which on.
    pub(crate) offers: Vec<(TaskKind, i64)>,
    /// Whether there is something to copy.
    pub(crate) copies: bool,
}

impl Effects {
    /// The offers as other coordinators are told of them: `index,upscale@1700000000000`. `None` when there are none.
    pub(crate) fn offers_in_words(&self, now_ms: i64) -> Option<String> {
        let words = self.offers.iter().map(|(kind, at_ms)| {
            if *at_ms <= now_ms {
                kind.as_str().to_owned()
            } else {
                format!("{}@{at_ms}", kind.as_str())
            }
        });
        // Those of now sort before those of later: they are told in any case.
        let words: BTreeSet<String> = words.collect();
        (!words.is_empty()).then(|| words.into_iter().take(TOLD_MAX).collect::<Vec<_>>().join(","))
    }

    /// What another coordinator told. Words of a later version are left out.
    pub(crate) fn from_words(words: &str) -> Self {
        let offers = words.split(',').filter_map(|word| {
            let (kind, at_ms) = word.split_once('@').unwrap_or((word, "0"));
            Some((TaskKind::parse(kind)?, at_ms.parse().ok()?))
        });
        Self {
            offers: offers.collect(),
            copies: false,
        }
    }

    /// Whether any of what was told is for later. What is for now was told without a time.
    pub(crate) fn has_later(&self) -> bool {
        self.offers.iter().any(|(_, at_ms)| *at_ms > 0)
    }

    /// Something of every kind, for when it is not known what was missed.
    pub(crate) fn everything() -> Self {
        Self {
            offers: TaskKind::ALL.map(|kind| (kind, 0)).to_vec(),
            copies: false,
        }
    }
}

/// The bells.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    offers: Arc<watch::Sender<Offers>>,
    copies: Arc<Notify>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            offers: Arc::new(watch::Sender::new(Offers::default())),
            copies: Arc::new(Notify::new()),
        }
    }

    /// Rings for what a transaction did; offers of later are rung when they are due.
    pub(crate) fn ring(&self, effects: &Effects, now_ms: i64) {
        if effects.copies {
            self.copies.notify_one();
        }
        let is_due = |at_ms: i64| at_ms <= now_ms;
        let due = effects.offers.iter().filter(|(_, at_ms)| is_due(*at_ms));
        self.offer(due.map(|(kind, _)| *kind));
        for (kind, at_ms) in effects.offers.iter().filter(|(_, at_ms)| !is_due(*at_ms)) {
            let wait = Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0));
            let (signals, kind) = (self.clone(), *kind);
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                signals.offer([kind].into_iter());
            });
        }
    }

    /// Follows the offers from now on.
    pub(crate) fn offers(&self) -> watch::Receiver<Offers> {
        self.offers.subscribe()
    }

    /// Waits until there may be something to copy.
    pub(crate) async fn copies(&self) {
        self.copies.notified().await;
    }

    fn offer(&self, kinds: impl Iterator<Item = TaskKind>) {
        self.offers.send_if_modified(|offers| {
            let mut any = false;
            for kind in kinds {
                offers[place(kind)] += 1;
                any = true;
            }
            any
        });
    }
}

/// Waits until something of one of the kinds was offered since a time.
pub(crate) async fn offered(offers: &mut watch::Receiver<Offers>, before: Offers, kinds: &[TaskKind]) {
    // The sender lives as long as the coordinator; when it is gone nothing will be offered.
    let moved = |now: &Offers| kinds.iter().any(|kind| now[place(*kind)] != before[place(*kind)]);
    if offers.wait_for(moved).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn place(kind: TaskKind) -> usize {
    TaskKind::ALL
        .iter()
        .position(|candidate| *candidate == kind)
        .expect("ALL holds every kind")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_was_offered_while_one_asked_is_not_waited_for() {
        let signals = Signals::new();
        let mut offers = signals.offers();
        let before = *offers.borrow_and_update();
        signals.offer([TaskKind::Index].into_iter());
        offers.borrow_and_update();
        let offered = |kind: TaskKind| offered(&mut signals.offers(), before, &[kind]).now_or_never();
        assert_eq!(
            (offered(TaskKind::Index), offered(TaskKind::Train)),
            (Some(()), None)
        );
    }

    #[test]
    fn what_is_told_is_what_was_offered() {
        let offers = vec![(TaskKind::Index, 5), (TaskKind::Train, 50), (TaskKind::Index, 7)];
        let effects = Effects {
            offers,
            copies: false,
        };
        let words = effects.offers_in_words(10).expect("there are some");
        assert_eq!(words, "index,train@50");
        let told = Effects::from_words(&words);
        assert_eq!(told.offers, [(TaskKind::Index, 0), (TaskKind::Train, 50)]);
        assert!(told.has_later() && !Effects::from_words("index").has_later());
        assert_eq!(Effects::default().offers_in_words(10), None);
        assert!(Effects::from_words("frobnicate,index@never").offers.is_empty());
    }
}
