//! The truth on the watch's side: everything it made, and what became of it.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Health,
    Device,
    Event,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Health, Kind::Device, Kind::Event];

    pub fn index(self) -> usize {
        self as usize
    }
}

/// Why an item is no longer in its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// A 200 for a live upload cleared the ring.
    ClearedByLive,
    /// All items of a replay were answered 200, or the one batch of health records.
    ClearedByReplay,
    /// The ring was full, and this was its oldest.
    DroppedOldest,
}

/// Something that a watch made in order to upload it.
#[derive(Debug, Clone)]
pub struct Item {
    pub kind: Kind,
    /// True time, milliseconds since 1970. The watch's own clock may be off.
    pub made_ms: i64,
    /// `yyyy-MM-dd HH:mm:ss` as the body says it: the watch's clock, in Shanghai. Two health records
    /// may have the same.
    pub device_time: String,
    /// Type and value of an event; with device and time, what it is known by.
    pub event: Option<(String, String)>,
    /// How many requests with this item were handed out.
    pub sent: u32,
    /// When a request that held this item was first answered 200.
    pub confirmed_ms: Option<i64>,
    pub left: Option<(i64, Left)>,
}

impl Item {
    /// It left its ring, and the watch never had a 200 for it. Whether the server has it is another
    /// question: an answer may have been lost, or was not 200 although the item was stored.
    pub fn is_unconfirmed_and_gone(&self) -> bool {
        self.left.is_some() && self.confirmed_ms.is_none()
    }
}

/// Every item of a watch, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub struct Record {
    items: Vec<Item>,
    /// Events that happened and never became an item, since the watch suppresses repeats.
    pub suppressed: u64,
}

impl Record {
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Items of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.kind == kind)
    }

    pub(crate) fn add(
        &mut self,
        kind: Kind,
        made_ms: i64,
        device_time: String,
        event: Option<(String, String)>,
    ) -> usize {
        let item = Item { kind, made_ms, device_time, event, sent: 0, confirmed_ms: None, left: None };
        self.items.push(item);
        self.items.len() - 1
    }

    pub(crate) fn sent(&mut self, items: &[usize]) {
        for item in items {
            self.items[*item].sent += 1;
        }
    }

    pub(crate) fn confirmed(&mut self, items: &[usize], at_ms: i64) {
        for item in items {
            self.items[*item].confirmed_ms.get_or_insert(at_ms);
        }
    }

    pub(crate) fn left(&mut self, items: &[usize], at_ms: i64, why: Left) {
        for item in items {
            self.items[*item].left.get_or_insert((at_ms, why));
        }
    }
}
