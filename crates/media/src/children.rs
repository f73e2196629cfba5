//! Which processes belong to a piece of work, so that whoever gives the work up can end them.
//!
//! A child that hangs holds the thread that reads from it or writes to it, and that thread cannot look up. So the work is run
//! [`Children::around`], every child that its thread starts is noted, and [`Children::stop`] kills them from any other
//! thread: their pipes close, and the work ends. A thread that starts children for another enters its family first.

use std::cell::RefCell;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::MediaError;

thread_local! {
    static FAMILY: RefCell<Option<Children>> = const { RefCell::new(None) };
}

/// The children of one piece of work. Cheap to clone; none where nobody stops them.
#[derive(Debug, Clone, Default)]
pub struct Children(Arc<Mutex<Family>>);

#[derive(Debug, Default)]
struct Family {
    is_stopped: bool,
    started: Vec<Weak<Mutex<Child>>>,
}

/// Gives a thread back to the family that it was in.
struct Leaving(Option<Children>);

impl Drop for Leaving {
    fn drop(&mut self) {
        FAMILY.set(self.0.take());
    }
}

impl Children {
    /// Those of the work that this thread does, for a thread that it starts.
    #[must_use]
    pub fn of_this_thread() -> Self {
        FAMILY.with_borrow(Clone::clone).unwrap_or_default()
    }

    /// Does work whose children belong here.
    pub fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        let _leaving = Leaving(FAMILY.replace(Some(self.clone())));
        work()
    }

    /// Kills all that live, and lets no other be started.
    pub fn stop(&self) {
        let mut family = self.lock();
        family.is_stopped = true;
        for child in family.started.drain(..).filter_map(|child| child.upgrade()) {
            // It fails only when the child is gone already, which is what is wanted.
            let _ = locked(&child).kill();
        }
    }

    /// Whether the work is given up.
    pub(crate) fn are_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Starts a child.
    pub(crate) fn start(
        &self,
        program: &'static str,
        command: &mut Command,
    ) -> Result<Arc<Mutex<Child>>, MediaError> {
        let mut family = self.lock();
        if family.is_stopped {
            return Err(MediaError::Stopped);
        }
        let child = command
            .spawn()
            .map_err(|source| MediaError::Tool { program, source })?;
        let child = Arc::new(Mutex::new(child));
        family.started.retain(|child| child.strong_count() > 0);
        family.started.push(Arc::downgrade(&child));
        Ok(child)
    }

    fn lock(&self) -> MutexGuard<'_, Family> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child, for a moment: who waits for its end must not keep others from killing it.
pub(crate) fn locked(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn work_that_was_given_up_starts_no_child() {
        let children = Children::default();
        children.stop();
        let refused = children.around(|| Children::of_this_thread().start("true", &mut Command::new("true")));
        assert!(matches!(refused, Err(MediaError::Stopped)));
        let elsewhere = Children::of_this_thread().start("true", &mut Command::new("true"));
        locked(&elsewhere.unwrap()).wait().unwrap();
    }
}
