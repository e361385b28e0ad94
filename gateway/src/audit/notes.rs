//! Records that nobody waits for, until the thread that writes the log takes them along.
//!
//! Handing each over as it comes would wake that thread and cost a sync of the disk, for a record that promises neither.

use std::sync::{Mutex, PoisonError};

use super::writer::Write;

/// What is to be written with the next batch, in order.
#[derive(Default)]
pub(super) struct Notes(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    writes: Vec<Write>,
    closed: bool,
}

impl Notes {
    /// Keeps a record for the next batch. `false`: there is none, the log is closed.
    pub(super) fn add(&self, write: Write) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.closed {
            kept.writes.push(write);
        }
        !kept.closed
    }

    /// Takes what there is.
    pub(super) fn take(&self) -> Vec<Write> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).writes)
    }

    /// Takes what there is, and from now on keeps nothing.
    pub(super) fn close(&self) -> Vec<Write> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.closed = true;
        std::mem::take(&mut kept.writes)
    }
}
