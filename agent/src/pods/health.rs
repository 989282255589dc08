//! Whether the watch of the node's pods is well.

/// What the watch told last. After each error it lists the pods anew, so that it is well again as soon as it
/// goes on, even where nothing happens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WatchHealth {
    failed: bool,
}

impl WatchHealth {
    /// It showed something.
    pub(crate) fn showed(&mut self) {
        self.failed = false;
    }

    /// It told of an error.
    pub(crate) fn failed(&mut self) {
        self.failed = true;
    }

    /// Whether it goes on.
    pub(crate) fn is_well(self) -> bool {
        !self.failed
    }
}
