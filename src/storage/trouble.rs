//! What an error says about the disk below. diesel hands on SQLite's texts and not its codes; the
//! texts are those of `sqlite3_errstr`, which have been the same for decades.

use super::database::StorageError;
use crate::supervision::outage::OutageKind;

const TEXTS: [(&str, OutageKind); 9] = [
    ("database or disk is full", OutageKind::DiskFull),
    ("disk I/O error", OutageKind::DiskError),
    ("large file support is disabled", OutageKind::DiskError),
    ("attempt to write a readonly database", OutageKind::NotWritable),
    ("unable to open database file", OutageKind::NotWritable),
    ("access permission denied", OutageKind::NotWritable),
    ("database disk image is malformed", OutageKind::Damaged),
    ("malformed database schema", OutageKind::Damaged),
    ("file is not a database", OutageKind::Damaged),
];

impl StorageError {
    /// The outage that it is a sign of; `None` if another write may well succeed.
    pub fn outage(&self) -> Option<OutageKind> {
        let text = match self {
            StorageError::Open { message, .. } => message.clone(),
            StorageError::Query(err) => err.to_string(),
            StorageError::SpoolFull { .. } => return Some(OutageKind::SpoolFull),
            _ => return None,
        };
        TEXTS.into_iter().find(|(known, _)| text.contains(known)).map(|(_, kind)| kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_or_a_bad_statement_is_no_outage() {
        let open = |message: &str| StorageError::Open { path: "x".into(), message: message.into() };
        assert_eq!(open("database is locked").outage(), None);
        assert_eq!(StorageError::Busy.outage(), None);
        assert_eq!(StorageError::Query(diesel::result::Error::NotFound).outage(), None);
        assert_eq!(open("disk I/O error").outage(), Some(OutageKind::DiskError));
    }
}
