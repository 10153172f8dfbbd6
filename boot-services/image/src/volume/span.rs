use core::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Ranges of blocks that somebody works on alone. There are as many as there are threads that write.
#[derive(Debug, Default)]
pub(super) struct Spans {
    taken: Mutex<Vec<Range<u64>>>,
    freed: Condvar,
}

/// A range that is taken until this is dropped.
pub(super) struct Span<'a> {
    spans: &'a Spans,
    range: Range<u64>,
}

impl Spans {
    fn taken(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody has any of these blocks, and takes them.
    pub(super) fn take(&self, range: Range<u64>) -> Span<'_> {
        let meets = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        let mut taken = self.taken();
        while taken.iter().any(meets) {
            taken = self.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.push(range.clone());
        Span { spans: self, range }
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let mut taken = self.spans.taken();
        if let Some(at) = taken.iter().position(|range| *range == self.range) {
            taken.swap_remove(at);
        }
        drop(taken);
        self.spans.freed.notify_all();
    }
}
