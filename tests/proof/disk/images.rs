//! What may be on a disk after its power failed: of everything that was written after the last fsync
//! any part may be there, in any order, by sectors of 512 bytes.

use std::path::Path;

use testkit::scale::Random;

const SECTOR: usize = 512;
const HEAD: usize = 16;

/// One call that was recorded; where its record ends.
pub struct Step {
    file: usize,
    action: Action,
    pub ends: u64,
}

enum Action {
    Write { at: usize, data: Vec<u8> },
    Truncate { size: usize },
    SyncBegun { number: u64 },
    Synced { number: u64 },
    SyncFailed { number: u64 },
}

/// Reads what the shim has written down.
pub fn read(recording: &Path) -> Vec<Step> {
    let bytes = std::fs::read(recording).expect("a recording");
    let mut steps = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() >= HEAD {
        let length = u32::from_le_bytes(rest[4..8].try_into().expect("4 bytes")) as usize;
        let number = u64::from_le_bytes(rest[8..16].try_into().expect("8 bytes"));
        if rest.len() < HEAD + length {
            // The process was killed while it wrote this one.
            break;
        }
        let at = usize::try_from(number).expect("a small file");
        let action = match rest[0] {
            1 => Action::Write { at, data: rest[HEAD..HEAD + length].to_vec() },
            2 => Action::Truncate { size: at },
            3 => Action::SyncBegun { number },
            4 => Action::Synced { number },
            5 => Action::SyncFailed { number },
            other => panic!("no operation {other}"),
        };
        let file = usize::from(rest[1]) - 1;
        rest = &rest[HEAD + length..];
        steps.push(Step { file, action, ends: (bytes.len() - rest.len()) as u64 });
    }
    steps
}

/// One file: what is surely on the disk, and what may be.
#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    /// With the number of its step.
    pending: Vec<(usize, Change)>,
    /// Fsyncs under way, and the step at which each began.
    syncs: Vec<(u64, usize)>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Truncate { size: usize },
}

/// The disk as it goes through a recording.
pub struct Platter {
    names: [String; 2],
    files: [Content; 2],
    steps: usize,
    /// Changes that an fsync lost by failing.
    pub lost: usize,
}

/// How what may be on the disk is picked.
#[derive(Debug, Clone, Copy)]
pub enum Damage {
    /// Nothing after the last fsync.
    Dropped,
    /// All of it.
    Kept,
    /// The first so many, and the next one torn.
    Torn,
    /// Some of them, whole.
    Reordered,
    /// Some sectors of some of them.
    Sectors,
}

pub const DAMAGES: [Damage; 5] =
    [Damage::Dropped, Damage::Kept, Damage::Torn, Damage::Reordered, Damage::Sectors];

impl Platter {
    /// What is there when recording begins.
    pub fn load(data_dir: &Path, database: &str) -> Self {
        let names = [database.to_owned(), format!("{database}-wal")];
        let read = |name: &String| std::fs::read(data_dir.join(name)).unwrap_or_default();
        let files = names.each_ref().map(|name| Content { durable: read(name), ..Content::default() });
        Self { names, files, steps: 0, lost: 0 }
    }

    /// Goes on by one step. An fsync that fails has lost what was written before it, although the
    /// process goes on reading it: so it is with Linux, whose page cache then takes it for clean.
    pub fn step(&mut self, step: &Step) {
        self.steps += 1;
        let content = &mut self.files[step.file];
        match &step.action {
            Action::Write { at, data } => {
                content.pending.push((self.steps, Change::Write { at: *at, data: data.clone() }));
            }
            Action::Truncate { size } => {
                content.pending.push((self.steps, Change::Truncate { size: *size }));
            }
            Action::SyncBegun { number } => content.syncs.push((*number, self.steps)),
            Action::Synced { number } => {
                for change in content.before_sync(*number) {
                    change.apply(&mut content.durable);
                }
            }
            Action::SyncFailed { number } => self.lost += content.before_sync(*number).len(),
        }
    }

    /// Writes the files as they may be after the power failed now. How many changes were in doubt.
    pub fn fail(&self, damage: Damage, random: &mut Random, into: &Path) -> usize {
        let mut doubtful = 0;
        for (content, name) in self.files.iter().zip(&self.names) {
            doubtful += content.pending.len();
            std::fs::write(into.join(name), content.after(damage, random)).expect("an image");
        }
        doubtful
    }
}

impl Content {
    /// Takes the changes that came before an fsync began.
    fn before_sync(&mut self, number: u64) -> Vec<Change> {
        let index = self.syncs.iter().position(|(known, _)| *known == number).expect("it has begun");
        let (_, begun) = self.syncs.remove(index);
        let (before, after) = std::mem::take(&mut self.pending).into_iter().partition(|(at, _)| *at < begun);
        self.pending = after;
        let before: Vec<(usize, Change)> = before;
        before.into_iter().map(|(_, change)| change).collect()
    }

    fn after(&self, damage: Damage, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let changes = self.pending.iter().map(|(_, change)| change);
        let first = random.number() as usize % (self.pending.len() + 1);
        for (index, change) in changes.enumerate() {
            match damage {
                Damage::Dropped => {}
                Damage::Kept => change.apply(&mut bytes),
                Damage::Torn if index < first => change.apply(&mut bytes),
                Damage::Torn if index == first => change.apply_sectors(&mut bytes, random),
                Damage::Torn => {}
                Damage::Reordered => {
                    if random.number().is_multiple_of(2) {
                        change.apply(&mut bytes);
                    }
                }
                Damage::Sectors => change.apply_sectors(&mut bytes, random),
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { at, data } => put(bytes, *at, data),
            Change::Truncate { size } => bytes.resize(*size, 0),
        }
    }

    /// Each sector of it by chance.
    fn apply_sectors(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let Change::Write { at, data } = self else { return self.apply(bytes) };
        let mut from = 0;
        while from < data.len() {
            let to = data.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
            if random.number().is_multiple_of(2) {
                put(bytes, at + from, &data[from..to]);
            }
            from = to;
        }
    }
}

/// What lies between the old end and the new piece reads as zeros.
fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}
