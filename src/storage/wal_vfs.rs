//! Puts [`super::wal_frames`] between SQLite and the logs that it writes.
//!
//! SQLite's own functions for files open every file and keep their own table of functions for it;
//! only of a log those that read, write, sync and close it are replaced, and of a database the one
//! for locks, which tells when a transaction ends. What is ours lies behind SQLite's own struct of
//! an open file. <https://www.sqlite.org/vfs.html>
//!
//! Each file belongs to one connection, which one thread uses at a time, so nothing here is shared
//! but the tables, which do not change. The only file of the server with `unsafe`.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use libsqlite3_sys as ffi;

use super::wal_frames::Frames;

/// The lock of those who write, among those of a log's index ("Locking Matrix" of
/// <https://www.sqlite.org/walformat.html>).
const WRITE_LOCK: c_int = 0;

/// SQLite's own functions, and where our data begins in an open file.
struct Own {
    vfs: *mut ffi::sqlite3_vfs,
    offset: usize,
}

/// Functions of an open file, made of SQLite's own.
struct Table {
    own: *const ffi::sqlite3_io_methods,
    ours: ffi::sqlite3_io_methods,
}

// SAFETY: both point to what SQLite has for as long as the process runs and never changes.
unsafe impl Send for Own {}
// SAFETY: as above.
unsafe impl Sync for Own {}
// SAFETY: as above.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// `None` if SQLite did not take ours; then its own stay, and each page costs two writes.
static OWN: OnceLock<Option<Own>> = OnceLock::new();
static DATABASE: OnceLock<Table> = OnceLock::new();
static LOG: OnceLock<Table> = OnceLock::new();

/// Behind an open database.
struct DatabaseFile {
    /// Null while the log is not open.
    log: *mut LogFile,
}

/// Behind an open log.
struct LogFile {
    database: *mut DatabaseFile,
    frames: Frames,
}

/// For every database that is opened from now on. Before the first is.
pub(super) fn install() {
    OWN.get_or_init(|| {
        let own = register();
        if own.is_none() {
            tracing::warn!("SQLite did not take functions for its log; storing goes on, but slower");
        }
        own
    });
}

fn register() -> Option<Own> {
    // SAFETY: SQLite initialises itself; without a name it gives its default, which is never freed.
    let vfs = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    if vfs.is_null() {
        return None;
    }
    // SAFETY: just checked.
    let own = unsafe { *vfs };
    let offset = usize::try_from(own.szOsFile).ok()?.next_multiple_of(align_of::<LogFile>().max(8));
    let size = offset + size_of::<LogFile>().max(size_of::<DatabaseFile>());
    let ours = Box::leak(Box::new(ffi::sqlite3_vfs {
        szOsFile: c_int::try_from(size).ok()?,
        pNext: std::ptr::null_mut(),
        zName: c"watchpost".as_ptr(),
        xOpen: Some(open),
        ..own
    }));
    // SAFETY: it lives for ever, and has all functions that the default has.
    let code = unsafe { ffi::sqlite3_vfs_register(ours, 1) };
    (code == ffi::SQLITE_OK).then_some(Own { vfs, offset })
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let Some(own) = OWN.get().and_then(Option::as_ref) else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: SQLite's arguments, handed on to its own function, which gets its own table with them.
    let code = unsafe {
        match (*own.vfs).xOpen {
            Some(open) => open(own.vfs, name, file, flags, out_flags),
            None => ffi::SQLITE_CANTOPEN,
        }
    };
    if code == ffi::SQLITE_OK {
        // SAFETY: it is open, and `szOsFile` has made room behind SQLite's own struct.
        unsafe {
            if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
                adopt_database(file);
            } else if flags & ffi::SQLITE_OPEN_WAL != 0 && !name.is_null() {
                adopt_log(file, name);
            }
        }
    }
    code
}

/// # Safety
/// `file` is a database that has just been opened.
unsafe fn adopt_database(file: *mut ffi::sqlite3_file) {
    // SAFETY: the caller's promise; SQLite's tables are never freed.
    unsafe {
        let own = (*file).pMethods;
        if own.is_null() || (*own).iVersion < 2 || (*own).xShmLock.is_none() {
            return;
        }
        let ours = ffi::sqlite3_io_methods { xShmLock: Some(shm_lock), ..*own };
        let table = DATABASE.get_or_init(|| Table { own, ours });
        if table.own == own {
            behind::<DatabaseFile>(file).write(DatabaseFile { log: std::ptr::null_mut() });
            (*file).pMethods = &raw const table.ours;
        }
    }
}

/// Leaves the log of a database that was not adopted alone: nobody would say when a transaction ends.
///
/// # Safety
/// `file` is a log that has just been opened under `name`, which is SQLite's.
unsafe fn adopt_log(file: *mut ffi::sqlite3_file, name: *const c_char) {
    // SAFETY: the caller's promise; a connection closes its log before its database.
    unsafe {
        let database = ffi::sqlite3_database_file_object(name);
        let adopted = DATABASE.get().map(|table| &raw const table.ours);
        let own = (*file).pMethods;
        if own.is_null() || database.is_null() || Some((*database).pMethods) != adopted {
            return;
        }
        let ours = ffi::sqlite3_io_methods {
            xClose: Some(log_close),
            xRead: Some(log_read),
            xWrite: Some(log_write),
            xTruncate: Some(log_truncate),
            xSync: Some(log_sync),
            xFileSize: Some(log_file_size),
            ..*own
        };
        let table = LOG.get_or_init(|| Table { own, ours });
        if table.own == own {
            let (log, database) = (behind::<LogFile>(file), behind::<DatabaseFile>(database));
            log.write(LogFile { database, frames: Frames::default() });
            (*database).log = log;
            (*file).pMethods = &raw const table.ours;
        }
    }
}

/// What is ours of an open file.
fn behind<T>(file: *mut ffi::sqlite3_file) -> *mut T {
    let offset = OWN.get().and_then(Option::as_ref).map_or(0, |own| own.offset);
    file.wrapping_byte_add(offset).cast()
}

/// SQLite's own functions of an adopted file.
fn own(table: &OnceLock<Table>) -> &'static ffi::sqlite3_io_methods {
    let table = table.get().expect("made before the first file was adopted");
    // SAFETY: SQLite's tables are never freed and never change.
    unsafe { &*table.own }
}

/// Calls one of SQLite's own functions, which all of its files have.
macro_rules! call {
    ($function:expr, $($argument:expr),*) => {
        match $function {
            // SAFETY: SQLite's own arguments, for a file that it opened itself.
            Some(function) => unsafe { function($($argument),*) },
            None => ffi::SQLITE_IOERR,
        }
    };
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let is_write_lock = first == WRITE_LOCK && flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    let is_release = flags & ffi::SQLITE_SHM_UNLOCK != 0;
    // SAFETY: only adopted databases have this function; their log is ours while it is open, and nobody
    // else uses this connection meanwhile.
    let log = unsafe { (*behind::<DatabaseFile>(file)).log.as_mut() };
    let frames = log.filter(|_| is_write_lock).map(|log| &mut log.frames);
    match frames {
        None => call!(own(&DATABASE).xShmLock, file, first, count, flags),
        Some(frames) if is_release => {
            frames.unlock();
            call!(own(&DATABASE).xShmLock, file, first, count, flags)
        }
        Some(frames) => {
            let code = call!(own(&DATABASE).xShmLock, file, first, count, flags);
            if code == ffi::SQLITE_OK {
                frames.lock();
            }
            code
        }
    }
}

/// The log behind `file`, and what writes to it.
fn log<'a>(file: *mut ffi::sqlite3_file) -> (&'a mut Frames, impl FnMut(&[u8], i64) -> c_int) {
    let write = own(&LOG).xWrite;
    let to_file = move |bytes: &[u8], at: i64| match c_int::try_from(bytes.len()) {
        Ok(len) => call!(write, file, bytes.as_ptr().cast(), len, at),
        Err(_) => ffi::SQLITE_IOERR_WRITE,
    };
    // SAFETY: only adopted logs have these functions, and nobody else uses this connection meanwhile.
    (unsafe { &mut (*behind::<LogFile>(file)).frames }, to_file)
}

unsafe extern "C" fn log_write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    len: c_int,
    at: i64,
) -> c_int {
    let Ok(count) = usize::try_from(len) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite gives as many bytes as it says.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) };
    let (frames, mut to_file) = log(file);
    frames.write(bytes, at, &mut to_file)
}

unsafe extern "C" fn log_read(file: *mut ffi::sqlite3_file, to: *mut c_void, len: c_int, at: i64) -> c_int {
    let (frames, mut to_file) = log(file);
    match frames.before_read(at, usize::try_from(len).unwrap_or(0), &mut to_file) {
        ffi::SQLITE_OK => call!(own(&LOG).xRead, file, to, len, at),
        code => code,
    }
}

unsafe extern "C" fn log_truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let (frames, mut to_file) = log(file);
    match frames.before_other(&mut to_file) {
        ffi::SQLITE_OK => call!(own(&LOG).xTruncate, file, size),
        code => code,
    }
}

unsafe extern "C" fn log_sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let (frames, mut to_file) = log(file);
    match frames.before_other(&mut to_file) {
        ffi::SQLITE_OK => call!(own(&LOG).xSync, file, flags),
        code => code,
    }
}

unsafe extern "C" fn log_file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    let (frames, mut to_file) = log(file);
    match frames.before_other(&mut to_file) {
        ffi::SQLITE_OK => call!(own(&LOG).xFileSize, file, size),
        code => code,
    }
}

unsafe extern "C" fn log_close(file: *mut ffi::sqlite3_file) -> c_int {
    let log = behind::<LogFile>(file);
    // SAFETY: an adopted log, closed once and before its database; nothing is read of it afterwards.
    unsafe {
        (*(*log).database).log = std::ptr::null_mut();
        std::ptr::drop_in_place(log);
    }
    call!(own(&LOG).xClose, file)
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use diesel::sql_types::{BigInt, Text};

    use crate::storage::database::{Conn, Database};

    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        value: i64,
    }

    #[derive(QueryableByName)]
    struct Word {
        #[diesel(sql_type = Text)]
        value: String,
    }

    fn number(conn: &mut Conn, sql: &str) -> i64 {
        diesel::sql_query(sql).get_result::<Number>(conn).expect("a number").value
    }

    fn check(database: &Database) {
        let mut conn = database.open_reader().expect("a connection");
        let query = diesel::sql_query("SELECT integrity_check AS value FROM pragma_integrity_check");
        assert_eq!(query.get_result::<Word>(&mut conn).expect("a word").value, "ok");
    }

    /// A file with a table of texts, and a connection that has room for a few pages only, so that a
    /// transaction writes to the log long before it ends.
    fn scene(dir: &tempfile::TempDir) -> (Database, Conn) {
        let database = Database::at(dir.path().join("x.db"));
        let mut conn = database.open_writer().expect("a connection");
        conn.batch_execute("PRAGMA cache_size = 8; CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT)")
            .expect("a table");
        (database, conn)
    }

    fn add(conn: &mut Conn, from: i64, to: i64, letter: char) {
        let rows = format!(
            "WITH RECURSIVE n (id) AS (SELECT {from} UNION ALL SELECT id + 1 FROM n WHERE id < {to}) \
             INSERT INTO row SELECT id, printf('%.*c', 3000, '{letter}') FROM n"
        );
        conn.batch_execute(&rows).expect("rows");
    }

    /// Calls that this thread has made to write to files.
    fn writes() -> u64 {
        let counts = std::fs::read_to_string("/proc/thread-self/io").expect("counts of this thread");
        counts.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok()).expect("its writes")
    }

    #[test]
    fn a_transaction_of_a_hundred_pages_takes_a_few_writes() {
        let dir = tempfile::tempdir().expect("a directory");
        let (database, mut conn) = scene(&dir);
        conn.batch_execute("PRAGMA cache_size = 1000; BEGIN").expect("begun");
        add(&mut conn, 1, 100, 'a');
        let before = writes();
        conn.batch_execute("COMMIT").expect("committed");
        let count = writes() - before;
        assert!((1..=8).contains(&count), "{count} writes");
        check(&database);
    }

    #[test]
    fn a_transaction_larger_than_its_cache_can_be_read_undone_in_part_and_committed() {
        for level in ["FULL", "NORMAL", "OFF"] {
            let dir = tempfile::tempdir().expect("a directory");
            let (database, mut conn) = scene(&dir);
            let mut other = database.open_reader().expect("a connection");
            conn.batch_execute(&format!("PRAGMA synchronous = {level}; BEGIN")).expect("begun");
            add(&mut conn, 1, 300, 'a');
            conn.batch_execute("SAVEPOINT s; UPDATE row SET text = 'gone'").expect("changed");
            add(&mut conn, 301, 500, 'b');
            assert_eq!(number(&mut conn, "SELECT count(*) AS value FROM row"), 500);
            conn.batch_execute("ROLLBACK TO s; UPDATE row SET text = 'kept' WHERE id % 3 = 0")
                .expect("undone");
            add(&mut conn, 501, 600, 'c');
            assert_eq!(number(&mut other, "SELECT count(*) AS value FROM row"), 0, "{level}");
            conn.batch_execute("COMMIT").expect("committed");
            for conn in [&mut conn, &mut other] {
                assert_eq!(number(conn, "SELECT count(*) AS value FROM row"), 400, "{level}");
                let kept = "SELECT count(*) AS value FROM row WHERE text = 'kept'";
                assert_eq!(number(conn, kept), 100, "{level}");
            }
            check(&database);
        }
    }

    #[test]
    fn what_was_rolled_back_is_never_written_over_what_another_committed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (database, mut first) = scene(&dir);
        let mut second = database.open_writer().expect("a connection");
        for round in 0..20 {
            first.batch_execute("BEGIN IMMEDIATE").expect("begun");
            add(&mut first, 10_000, 10_020 + round, 'x');
            first.batch_execute("ROLLBACK").expect("rolled back");
            add(&mut second, round * 50 + 1, round * 50 + 50, 'y');
            assert_eq!(number(&mut first, "SELECT count(*) AS value FROM row"), (round + 1) * 50);
            assert_eq!(number(&mut first, "SELECT count(*) AS value FROM row WHERE id > 9999"), 0);
            check(&database);
        }
        drop((first, second));
        check(&database);
        let mut conn = database.open_writer().expect("a connection");
        assert_eq!(number(&mut conn, "SELECT count(*) AS value FROM row WHERE text LIKE 'y%'"), 1_000);
    }
}
