//! Whether SQLite's write-ahead log ends in something that is not whole. SQLite itself keeps what precedes
//! and says nothing.

use std::io::Read;
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// A page is at most so large.
const PAGE_MAX: u32 = 65_536;

/// Frames behind the last that counts; 0 if the log ends as it should. What they held was never
/// answered if a power cut interrupted it, and is lost if the file is damaged.
pub fn frames(log: &Path) -> std::io::Result<u64> {
    let mut file = match std::fs::File::open(log) {
        Ok(file) => std::io::BufReader::new(file),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(err) => return Err(err),
    };
    let mut header = [0u8; HEADER];
    match read_whole(&mut file, &mut header)? {
        0 => return Ok(0),
        HEADER => {}
        _ => return Ok(1),
    }
    let big_endian = word(&header, 0, true) & 1 == 1;
    let page = word(&header, 8, true);
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(&header, 24, true), word(&header, 28, true)) || !(512..=PAGE_MAX).contains(&page) {
        return Ok(1);
    }
    let mut frame = vec![0u8; FRAME_HEADER + page as usize];
    // Since the last transaction that ended.
    let (mut open, mut torn, mut broken) = (0u64, 0u64, false);
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
        open = if word(&frame, 4, true) == 0 { open + 1 } else { 0 };
    }
    Ok(torn + open)
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
