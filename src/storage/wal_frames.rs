//! The pages that a transaction appends to SQLite's write-ahead log, gathered into few writes.
//!
//! SQLite writes each of them with two calls, 24 bytes of head and the page; for a transaction of
//! thirty reports that is 260. Here they wait, and go to the file 31 pages at a time, the last
//! together with the head of the page that commits them. So nothing waits any more when a commit is
//! synced, nor when others can see it. Nothing waits outside of a transaction either: what has not
//! been committed when its lock is released was rolled back, and is dropped.

/// Length of the head of a page in the log. Its second number is not 0 if the page ends a
/// transaction (<https://www.sqlite.org/fileformat2.html#walformat>).
const HEAD_BYTES: usize = 24;
const COMMIT: std::ops::Range<usize> = 4..8;

/// What may wait: 31 pages. SQLite's own function writes no more bytes in one call, and takes a longer
/// one for a full disk.
pub(super) const WAITING_BYTES_MAX: usize = 0x1_ffff;

/// What SQLite's functions return: 0 if all is well.
pub(super) type Code = i32;
const OK: Code = 0;

/// Writes bytes at an offset of the log.
pub(super) type WriteAt<'a> = &'a mut dyn FnMut(&[u8], i64) -> Code;

/// What one connection has written to its log and what is not in the file yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Where `waiting` belongs.
    start: i64,
    waiting: Vec<u8>,
    /// The last that waits is a head, so its page is next.
    head_is_last: bool,
    /// The connection holds the lock of those who write, and says when it gives it back.
    locked: bool,
    /// Something that waited could not be written: the transaction has failed, and learns it from
    /// whatever it does next.
    failed: Option<Code>,
}

impl Frames {
    /// The lock of those who write is held.
    pub fn lock(&mut self) {
        self.drop_waiting();
        self.locked = true;
    }

    /// It is about to be released: others may write to the same place from now on.
    pub fn unlock(&mut self) {
        self.drop_waiting();
        self.locked = false;
    }

    pub fn write(&mut self, bytes: &[u8], at: i64, file: WriteAt<'_>) -> Code {
        if !self.locked {
            return file(bytes, at);
        }
        if let Some(code) = self.failed {
            return code;
        }
        let is_head = bytes.len() == HEAD_BYTES && !self.head_is_last;
        let commits = is_head && bytes[COMMIT] != [0; 4];
        let appends = self.waiting.is_empty() || at == self.end();
        if !(appends && (is_head || self.head_is_last)) {
            return match self.write_waiting(file) {
                OK => file(bytes, at),
                code => code,
            };
        }
        if self.waiting.len() + bytes.len() > WAITING_BYTES_MAX {
            let code = self.write_waiting(file);
            if code != OK {
                return code;
            }
        }
        if bytes.len() > WAITING_BYTES_MAX || self.waiting.try_reserve(bytes.len()).is_err() {
            return match self.write_waiting(file) {
                OK => file(bytes, at),
                code => code,
            };
        }
        if self.waiting.is_empty() {
            self.start = at;
        }
        self.waiting.extend_from_slice(bytes);
        self.head_is_last = is_head;
        if commits { self.write_waiting(file) } else { OK }
    }

    /// Before `len` bytes are read at `at`: what of them waits has to be in the file.
    pub fn before_read(&mut self, at: i64, len: usize, file: WriteAt<'_>) -> Code {
        let is_touched = at.saturating_add_unsigned(len as u64) > self.start && at < self.end();
        if self.failed.is_some() || is_touched { self.before_other(file) } else { OK }
    }

    /// Before anything else is done with the file.
    pub fn before_other(&mut self, file: WriteAt<'_>) -> Code {
        self.failed.unwrap_or_else(|| self.write_waiting(file))
    }

    fn end(&self) -> i64 {
        self.start.saturating_add_unsigned(self.waiting.len() as u64)
    }

    fn write_waiting(&mut self, file: WriteAt<'_>) -> Code {
        self.head_is_last = false;
        if self.waiting.is_empty() {
            return OK;
        }
        let code = file(&self.waiting, self.start);
        self.waiting.clear();
        if code != OK {
            self.failed = Some(code);
        }
        code
    }

    fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.head_is_last = false;
        self.failed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: usize = 512;
    const FULL: Code = 13;

    /// A file, and what it would be if nothing ever waited.
    #[derive(Default)]
    struct Twins {
        file: Vec<u8>,
        direct: Vec<u8>,
        writes: usize,
    }

    fn put(file: &mut Vec<u8>, bytes: &[u8], at: i64) -> Code {
        let at = usize::try_from(at).expect("an offset");
        file.resize(file.len().max(at + bytes.len()), 0);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        OK
    }

    impl Twins {
        fn write(&mut self, frames: &mut Frames, bytes: &[u8], at: usize) {
            let at = at as i64;
            put(&mut self.direct, bytes, at);
            let (file, writes) = (&mut self.file, &mut self.writes);
            let code = frames.write(bytes, at, &mut |bytes, at| {
                *writes += 1;
                put(file, bytes, at)
            });
            assert_eq!(code, OK);
        }

        fn append(&mut self, frames: &mut Frames, at: usize, fill: u8, commits: bool) -> usize {
            self.write(frames, &head(fill, commits), at);
            self.write(frames, &[fill; PAGE_BYTES], at + HEAD_BYTES);
            at + HEAD_BYTES + PAGE_BYTES
        }

        fn read(&mut self, frames: &mut Frames, range: std::ops::Range<usize>) {
            let file = &mut self.file;
            let code =
                frames.before_read(range.start as i64, range.len(), &mut |bytes, at| put(file, bytes, at));
            assert_eq!(code, OK);
            assert_eq!(self.file[range.clone()], self.direct[range]);
        }
    }

    fn head(fill: u8, commits: bool) -> [u8; HEAD_BYTES] {
        let mut head = [fill; HEAD_BYTES];
        head[COMMIT].copy_from_slice(&u32::from(commits).to_be_bytes());
        head
    }

    #[test]
    fn a_transaction_is_in_the_file_once_it_is_committed_and_takes_few_writes() {
        let (mut frames, mut twins) = (Frames::default(), Twins::default());
        frames.lock();
        let mut at = 32;
        for page in 0..60 {
            at = twins.append(&mut frames, at, page, page == 59);
        }
        assert_eq!(twins.file, twins.direct);
        assert_eq!(twins.writes, 2, "all heads and pages but the last, and that");
    }

    #[test]
    fn no_write_is_longer_than_sqlite_can_take() {
        let (mut frames, mut longest) = (Frames::default(), 0);
        let mut file = |bytes: &[u8], _: i64| {
            longest = longest.max(bytes.len());
            OK
        };
        frames.lock();
        let mut at = 32;
        for page in 0..200 {
            frames.write(&head(1, page == 199), at, &mut file);
            frames.write(&[1; 4096], at + HEAD_BYTES as i64, &mut file);
            at += (HEAD_BYTES + 4096) as i64;
        }
        assert!((100_000..=WAITING_BYTES_MAX).contains(&longest), "{longest} bytes");
    }

    #[test]
    fn nothing_waits_without_the_lock() {
        let (mut frames, mut twins) = (Frames::default(), Twins::default());
        twins.append(&mut frames, 32, 1, false);
        assert_eq!(twins.file, twins.direct);
    }

    #[test]
    fn whatever_a_connection_does_it_reads_what_it_wrote_and_others_see_what_it_committed() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut frames, mut twins) = (Frames::default(), Twins::default());
            let (mut committed, frame) = (32, HEAD_BYTES + PAGE_BYTES);
            for _ in 0..12 {
                frames.lock();
                let mut end = committed;
                for _ in 0..random.usize(0..20) {
                    let own = (end - committed) / frame;
                    match random.u8(0..10) {
                        0 if end > 32 => {
                            let from = random.usize(32..end);
                            twins.read(&mut frames, from..random.usize(from..end) + 1);
                        }
                        // A page of this transaction written again, where it is.
                        1 if own > 0 => {
                            let at = committed + random.usize(0..own) * frame + HEAD_BYTES;
                            twins.write(&mut frames, &[random.u8(..); PAGE_BYTES], at);
                        }
                        // Undone as far as a savepoint.
                        2 => end = committed + random.usize(0..=own) * frame,
                        _ => end = twins.append(&mut frames, end, random.u8(..), false),
                    }
                }
                if random.bool() {
                    end = twins.append(&mut frames, end, random.u8(..), true);
                    // The check sums of pages that were written again.
                    for at in (committed..end).step_by(frame * random.usize(1..4)) {
                        twins.read(&mut frames, at..at + frame);
                        twins.write(&mut frames, &head(random.u8(..), at + frame == end), at);
                    }
                    let last = head(random.u8(..), true);
                    twins.write(&mut frames, &last, end - frame);
                    committed = end;
                    assert_eq!(twins.file[..end], twins.direct[..end], "seed {seed}");
                }
                frames.unlock();
                // Somebody else commits at the same place.
                let theirs = vec![random.u8(..); random.usize(0..3) * frame];
                put(&mut twins.file, &theirs, committed as i64);
                put(&mut twins.direct, &theirs, committed as i64);
                committed += theirs.len();
            }
            assert_eq!(twins.file[..committed], twins.direct[..committed], "seed {seed}");
        }
    }

    #[test]
    fn a_transaction_whose_pages_cannot_be_written_fails_and_the_next_one_begins_anew() {
        let (mut frames, mut reached) = (Frames::default(), Vec::new());
        let mut full = |_: &[u8], _: i64| FULL;
        frames.lock();
        assert_eq!(frames.write(&head(1, false), 32, &mut full), OK);
        assert_eq!(frames.write(&[1; PAGE_BYTES], 56, &mut full), OK);
        assert_eq!(frames.before_read(56, PAGE_BYTES, &mut full), FULL, "it cannot be read back");
        let mut works = |bytes: &[u8], at: i64| put(&mut reached, bytes, at);
        assert_eq!(frames.write(&head(2, true), 568, &mut works), FULL, "it is not committed without it");
        assert_eq!(frames.before_other(&mut works), FULL, "nor synced");
        frames.unlock();
        frames.lock();
        assert_eq!(frames.write(&head(3, true), 32, &mut works), OK);
        assert_eq!(reached[32..56], head(3, true));
    }
}
