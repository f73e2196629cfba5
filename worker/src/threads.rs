//! How many threads a task may use, said once to everything that would otherwise take every core.

use std::thread::available_parallelism;

/// Threads of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threads {
    /// Of one task.
    pub(crate) per_task: usize,
    /// Of all tasks together.
    pub(crate) total: usize,
}

impl Threads {
    /// For so many tasks at once; 0 wanted shares the cores.
    pub(crate) fn of_slots(wanted: usize, slots: u32) -> Self {
        share(
            wanted,
            slots as usize,
            available_parallelism().map_or(1, usize::from),
        )
    }

    /// Tells the pool for pixels and the network's library. To be called once, before either is used.
    pub(crate) fn apply(self) {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.total)
            .build_global();
        if let Err(error) = pool {
            tracing::warn!(%error, "the number of threads stays as it was");
        }
        #[cfg(feature = "upscale")]
        remaster_model::set_threads(self.per_task);
    }
}

fn share(wanted: usize, slots: usize, cores: usize) -> Threads {
    let per_task = if wanted > 0 {
        wanted
    } else {
        (cores / slots.max(1)).max(1)
    };
    Threads {
        per_task,
        total: per_task * slots.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_unless_said_otherwise() {
        assert_eq!(
            share(0, 3, 16),
            Threads {
                per_task: 5,
                total: 15
            }
        );
        assert_eq!(
            share(0, 8, 2),
            Threads {
                per_task: 1,
                total: 8
            }
        );
        assert_eq!(
            share(6, 2, 2),
            Threads {
                per_task: 6,
                total: 12
            }
        );
    }
}
