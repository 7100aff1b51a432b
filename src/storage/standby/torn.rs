//! Whether an SQLite file or its write-ahead log ends in something that is not whole. SQLite itself keeps
//! what precedes, takes what is missing for zeros, and says nothing.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// A page is at most so large.
const PAGE_MAX: u32 = 65_536;
/// A header that says that more is missing, bytes, is damaged itself.
const PADDED_MAX: u64 = 1 << 34;

/// A log as SQLite reads it.
#[derive(Debug, Default)]
pub struct Log {
    /// Frames behind the last that counts; 0 if the log ends as it should. What they held was never
    /// answered if a power cut interrupted it, and is lost if the file is damaged.
    pub torn: u64,
    /// Pages of the database that it holds, whatever the file has of them.
    pages: HashSet<u32>,
}

impl Log {
    fn torn(torn: u64) -> Self {
        Self { torn, ..Self::default() }
    }
}

/// What a log holds. One that is not there holds nothing.
pub fn look(log: &Path) -> std::io::Result<Log> {
    let mut file = match std::fs::File::open(log) {
        Ok(file) => std::io::BufReader::new(file),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Log::default()),
        Err(err) => return Err(err),
    };
    let mut header = [0u8; HEADER];
    match read_whole(&mut file, &mut header)? {
        0 => return Ok(Log::default()),
        HEADER => {}
        _ => return Ok(Log::torn(1)),
    }
    let big_endian = word(&header, 0, true) & 1 == 1;
    let page = word(&header, 8, true);
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(&header, 24, true), word(&header, 28, true)) || !(512..=PAGE_MAX).contains(&page) {
        return Ok(Log::torn(1));
    }
    let mut pages = HashSet::new();
    let mut frame = vec![0u8; FRAME_HEADER + page as usize];
    // Since the last transaction that ended.
    let (mut open, mut torn, mut broken) = (Vec::new(), 0u64, false);
    loop {
        let read = read_whole(&mut file, &mut frame)?;
        if read == 0 {
            break;
        }
        // What an earlier use of the file has left behind has other salts.
        if read >= 16 && frame[8..16] != header[16..24] {
            break;
        }
        if broken || read < frame.len() {
            torn += 1;
            break;
        }
        sum = checksum(sum, &frame[..8], big_endian);
        sum = checksum(sum, &frame[FRAME_HEADER..], big_endian);
        if sum != (word(&frame, 16, true), word(&frame, 20, true)) {
            (broken, torn) = (true, torn + 1);
            continue;
        }
        open.push(word(&frame, 0, true));
        if word(&frame, 4, true) != 0 {
            pages.extend(open.drain(..));
        }
    }
    Ok(Log { torn: torn + open.len() as u64, pages })
}

/// Gives a file that is too short the size that its header says: without that SQLite reads none of it. What
/// is missing becomes zeros, as it would within a page.
pub fn pad(file: &Path) -> std::io::Result<()> {
    let mut header = [0u8; 32];
    if read_whole(&mut std::fs::File::open(file)?, &mut header)? < header.len() {
        return Ok(());
    }
    let whole = page_size(&header) * u64::from(word(&header, 28, true));
    let missing = whole.checked_sub(std::fs::metadata(file)?.len());
    match missing.is_some_and(|missing| (1..=PADDED_MAX).contains(&missing)) {
        true => std::fs::OpenOptions::new().write(true).open(file)?.set_len(whole),
        false => Ok(()),
    }
}

/// Of a database's header; 0 if that is not whole.
fn page_size(header: &[u8]) -> u64 {
    let size = header.get(16..18).map_or(0, |size| u64::from(u16::from_be_bytes([size[0], size[1]])));
    // 65,536 does not fit.
    if size == 1 { u64::from(PAGE_MAX) } else { size }
}

/// What is missing if the file ends within a page that the log does not have.
pub fn short(file: &Path, log: &Log) -> std::io::Result<Option<String>> {
    let length = std::fs::metadata(file)?.len();
    if length == 0 {
        return Ok(None);
    }
    let mut header = [0u8; 18];
    let read = read_whole(&mut std::fs::File::open(file)?, &mut header)?;
    let page = page_size(&header[..read]);
    let Some(within) = length.checked_rem(page) else { return Ok(Some("its header is not whole".into())) };
    let last = u32::try_from(length / page + 1).unwrap_or(u32::MAX);
    let whole = within == 0 || log.pages.contains(&last);
    Ok((!whole).then(|| format!("it ends within page {last}")))
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word: [u8; 4] = std::array::from_fn(|index| bytes[at + index]);
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

/// As the file format of SQLite has it.
fn checksum((mut first, mut second): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for at in (0..bytes.len()).step_by(8) {
        first = first.wrapping_add(word(bytes, at, big_endian)).wrapping_add(second);
        second = second.wrapping_add(word(bytes, at + 4, big_endian)).wrapping_add(first);
    }
    (first, second)
}

/// Up to the end of the file; how much there was.
fn read_whole(file: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read(&mut into[done..])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}
