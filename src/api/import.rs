//! `POST /api/v1/bindings/import`: many bindings from a CSV, all or none.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::Authenticated;
use super::body;
use super::devices::{check_names, name};
use super::error::Problem;
use super::state::ApiState;
use crate::domain::ids::{CustomerId, DeviceSn};
use crate::storage::bindings;
use crate::storage::command::{Command, CommandReply, NewBinding};

/// Lines of one file. It is one transaction, and alerts wait for it: 5,000 lines took 1.2 s in a
/// debug build.
pub const ROWS_MAX: usize = 2_000;
/// Faults that an answer lists.
const FAULTS_MAX: usize = 500;
const COLUMNS: [&str; 7] =
    ["device_sn", "customer_id", "customer_name", "org_id", "org_name", "person_id", "person_name"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    #[serde(default)]
    dry_run: bool,
}

/// What is wrong with one line of the file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub line: u64,
    pub error: String,
}

/// A binding and where it was written.
#[derive(Debug, Clone)]
pub struct Row {
    pub line: u64,
    pub binding: NewBinding,
}

pub async fn import(
    state: web::Data<ApiState>,
    caller: Authenticated,
    query: web::Query<ImportQuery>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Authenticated(caller) = caller;
    body::require_type(&request, "text/csv")?;
    let (bytes, _room) = body::bytes(&request, payload).await?;
    let (rows, mut faults) = read(&bytes);
    let (scope, rehearsed) = (caller.scope.clone(), rows.clone());
    let found = state.readers.read(move |conn| {
        let bindings: Vec<&NewBinding> = rehearsed.iter().map(|row| &row.binding).collect();
        let conflicts = bindings::conflicts(conn, &bindings, &scope)?.into_iter();
        let faults = rehearsed
            .iter()
            .zip(conflicts)
            .filter_map(|(row, conflict)| Some(Fault { line: row.line, error: conflict? }));
        Ok(faults.collect::<Vec<_>>())
    });
    faults.extend(found.await?);
    faults.sort_by_key(|fault| fault.line);
    let fault_count = faults.len();
    faults.truncate(FAULTS_MAX);
    if query.dry_run {
        let body = json!({ "rows": rows.len(), "faults": faults, "fault_count": fault_count });
        return Ok(HttpResponse::Ok().json(body));
    }
    if !faults.is_empty() {
        let problem = Problem::invalid(format!("{fault_count} lines are wrong; nothing was imported"));
        return Err(problem.with("faults", json!(faults)).with("fault_count", fault_count.into()));
    }
    let count = rows.len();
    let bindings: Vec<NewBinding> = rows.into_iter().map(|row| row.binding).collect();
    let devices = bindings.iter().map(|binding| binding.device_sn.clone()).collect();
    let command = Command::ImportBindings { bindings, scope: caller.scope, actor: caller.name };
    let changed = match super::devices::change_bindings(&state, command, devices).await? {
        CommandReply::Imported { changed } => changed,
        _ => Vec::new(),
    };
    Ok(HttpResponse::Ok().json(json!({ "rows": count, "changed": changed.len() })))
}

/// All bindings that can be read, and every fault that the file has by itself.
pub fn read(bytes: &[u8]) -> (Vec<Row>, Vec<Fault>) {
    // Spreadsheets write a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(err) => return (Vec::new(), vec![Fault { line: 1, error: err.to_string() }]),
    };
    if let Some(error) = header_fault(&header) {
        return (Vec::new(), vec![Fault { line: 1, error }]);
    }
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut file = SeenInFile::default();
    let mut count = 0;
    for record in reader.records() {
        count += 1;
        let record = match record {
            Ok(record) => record,
            Err(err) => {
                let line = err.position().map_or(0, csv::Position::line);
                faults.push(Fault { line, error: "the line is not UTF-8 text".into() });
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        if count > ROWS_MAX {
            faults.push(Fault { line, error: format!("at most {ROWS_MAX} lines go; split the file") });
            break;
        }
        let read = read_record(&header, &record).and_then(|binding| {
            file.check(line, &binding)?;
            Ok(Row { line, binding })
        });
        match read {
            Ok(row) => rows.push(row),
            Err(error) => faults.push(Fault { line, error }),
        }
    }
    if count == 0 {
        faults.push(Fault { line: 1, error: "there is no line after the header".into() });
    }
    (rows, faults)
}

fn header_fault(header: &csv::StringRecord) -> Option<String> {
    let columns = COLUMNS.join(",");
    if let Some(unknown) = header.iter().find(|name| !COLUMNS.contains(name)) {
        return Some(format!("unknown column {unknown:?}; the header is {columns}"));
    }
    if header.iter().enumerate().any(|(at, name)| header.iter().skip(at + 1).any(|other| other == name)) {
        return Some(format!("a column is there twice; the header is {columns}"));
    }
    let missing =
        ["device_sn", "customer_id"].into_iter().find(|name| !header.iter().any(|has| has == *name));
    missing.map(|name| format!("column {name} is missing; the header is {columns}"))
}

fn read_record(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<NewBinding, String> {
    if record.len() != header.len() {
        return Err(format!("{} fields where the header has {}", record.len(), header.len()));
    }
    let field = |column: &str| {
        let at = header.iter().position(|name| name == column)?;
        record.get(at).filter(|text| !text.is_empty())
    };
    let named = |column: &str| name(column, field(column).map(str::to_owned));
    let required = |column: &str| field(column).ok_or_else(|| format!("{column} is empty"));
    let binding = NewBinding {
        device_sn: required("device_sn")?.parse().map_err(|err| format!("device_sn: {err}"))?,
        customer_id: required("customer_id")?.parse().map_err(|err| format!("customer_id: {err}"))?,
        customer_name: named("customer_name")?,
        org_id: field("org_id").map(str::parse).transpose().map_err(|err| format!("org_id: {err}"))?,
        org_name: named("org_name")?,
        person_id: field("person_id")
            .map(str::parse)
            .transpose()
            .map_err(|err| format!("person_id: {err}"))?,
        person_name: named("person_name")?,
    };
    check_names(&binding)?;
    Ok(binding)
}

/// Finds lines that contradict earlier ones.
#[derive(Default)]
struct SeenInFile {
    devices: HashMap<DeviceSn, u64>,
    /// Customer of each (kind, id).
    members: HashMap<(&'static str, String), (CustomerId, u64)>,
}

impl SeenInFile {
    fn check(&mut self, line: u64, binding: &NewBinding) -> Result<(), String> {
        if let Some(first) = self.devices.insert(binding.device_sn.clone(), line) {
            self.devices.insert(binding.device_sn.clone(), first);
            return Err(format!("device_sn {} is on line {first} already", binding.device_sn));
        }
        let org = binding.org_id.as_ref().map(|id| ("org_id", id.to_string()));
        let person = binding.person_id.as_ref().map(|id| ("person_id", id.to_string()));
        for member in [org, person].into_iter().flatten() {
            let here = (binding.customer_id.clone(), line);
            let (customer, first) = self.members.entry(member.clone()).or_insert(here);
            if *customer != binding.customer_id {
                let (kind, id) = member;
                return Err(format!("{kind} {id} belongs to customer {customer} on line {first}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_listed_with_its_line() {
        let file = "\u{feff}device_sn,customer_id,org_id,org_name,person_id\n\
                    A,1,o1,Mine,p1\n\
                    ,1,,,\n\
                    B,2,o1,,\n\
                    A,1,,,\n\
                    C,1\n\
                    D,1,,Nameless,\n\
                    E,1,,,p2\n";
        let (rows, faults) = read(file.as_bytes());
        let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
        assert_eq!(lines, [2, 8]);
        let faults: Vec<(u64, &str)> =
            faults.iter().map(|fault| (fault.line, fault.error.as_str())).collect();
        assert_eq!(
            faults,
            [
                (3, "device_sn is empty"),
                (4, "org_id o1 belongs to customer 1 on line 2"),
                (5, "device_sn A is on line 2 already"),
                (6, "2 fields where the header has 5"),
                (7, "org_name needs an org_id"),
            ]
        );
    }

    #[test]
    fn a_header_must_be_ours_and_complete() {
        for (file, named) in [("serial,customer_id\nA,1\n", "serial"), ("device_sn\nA\n", "customer_id")] {
            let (rows, faults) = read(file.as_bytes());
            assert!(rows.is_empty() && faults.len() == 1 && faults[0].error.contains(named), "{faults:?}");
        }
    }
}
