//! What waits on a watch for its upload: one ring per type of item, oldest first.

use std::collections::VecDeque;

/// No ring is longer, whatever the settings say.
pub const CAPACITY_MAX: usize = 100;

/// An item that waits, with the JSON that is sent for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Index into [`crate::Record::items`].
    pub item: usize,
    pub json: String,
}

#[derive(Debug, Clone)]
pub struct Ring {
    capacity: usize,
    waiting: VecDeque<Waiting>,
}

impl Ring {
    /// At least one item fits, so that a ring can be used at all.
    pub fn new(cache_max_count: usize) -> Self {
        Self { capacity: cache_max_count.clamp(1, CAPACITY_MAX), waiting: VecDeque::new() }
    }

    /// Puts an item at the end. Answers the item that had to leave for it.
    pub fn push(&mut self, waiting: Waiting) -> Option<usize> {
        let dropped = (self.waiting.len() == self.capacity).then(|| self.waiting.pop_front());
        self.waiting.push_back(waiting);
        dropped.flatten().map(|dropped| dropped.item)
    }

    /// Empties the ring and answers what was in it.
    pub fn clear(&mut self) -> Vec<usize> {
        self.waiting.drain(..).map(|waiting| waiting.item).collect()
    }

    /// Everything that waits, oldest first.
    pub fn snapshot(&self) -> VecDeque<Waiting> {
        self.waiting.clone()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
