//! Whether the promises were kept: what was answered 200 = what is stored = (if critical) what every
//! dashboard was pushed, in order, once. Pure: sets in, verdicts out.

use std::collections::{HashMap, HashSet};

use super::ledger::Promised;
use super::request::{Fleet, Key, uuid_text};
use super::screens::{Life, Watched};
use super::stored::{Change, Stored};

/// How many ids a failed check names.
const NAMED_MAX: usize = 10;

/// What watches were told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub promised: Vec<Key>,
    pub critical: Vec<Promised>,
    pub unsure: Vec<Key>,
    pub false_duplicates: Vec<Key>,
    pub corpus_events: Vec<u128>,
}

/// One promise, and what broke it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// How many things were looked at.
    pub compared: u64,
    pub broken: u64,
    /// The first of them, by id.
    pub first: Vec<String>,
}

impl Check {
    fn new(name: &'static str, compared: usize, broken: impl IntoIterator<Item = String>) -> Self {
        let mut check = Self { name, compared: compared as u64, broken: 0, first: Vec::new() };
        for id in broken {
            check.broken += 1;
            if check.first.len() < NAMED_MAX {
                check.first.push(id);
            }
        }
        check
    }

    pub fn ok(&self) -> bool {
        self.broken == 0
    }
}

/// Counts that are no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub stored: u64,
    /// Stored although they were not answered 200.
    pub stored_unanswered: u64,
    /// Changes that dashboards had to get, each of them.
    pub critical_changes: u64,
    /// Alert frames over all dashboards.
    pub pushed: u64,
    /// Of these, missed at first and sent after a reconnect.
    pub resumed: u64,
    /// Gaps that a snapshot filled.
    pub gaps: u64,
}

pub fn check(told: &Told, stored: &Stored, watched: &Watched, fleet: &Fleet) -> (Vec<Check>, Counts) {
    let name = |key: &Key| match stored.event_ids.get(key) {
        Some(id) => format!("{} ({})", uuid_text(*id), fleet.name(*key)),
        None => fleet.name(*key),
    };
    let comparable = |key: &&Key| stored.rows_of_vitals || matches!(key.kind() as usize, 0 | 1);
    let promised: HashSet<Key> = told.promised.iter().filter(comparable).copied().collect();
    let unsure: HashSet<Key> = told.unsure.iter().copied().collect();
    let sorted = |keys: Vec<&Key>| {
        let mut keys = keys;
        keys.sort_unstable();
        keys.into_iter().map(name).collect::<Vec<_>>()
    };
    let lost = sorted(promised.difference(&stored.keys).collect());
    let never_sent =
        stored.keys.iter().filter(|key| !promised.contains(key) && !unsure.contains(key)).collect();
    let unanswered = stored.keys.iter().filter(|key| !promised.contains(key) && unsure.contains(key)).count();
    let twice = stored.twice.iter().chain(&told.false_duplicates).map(name);
    let other_id = told
        .critical
        .iter()
        .filter(|event| stored.event_ids.get(&event.key).is_some_and(|id| *id != event.event_id));
    let corpus_lost = told.corpus_events.iter().filter(|id| !stored.other_events.contains(id));

    let mut offset_of: HashMap<u128, u64> = HashMap::new();
    let mut changed_twice = Vec::new();
    for change in &stored.changes {
        if let Some(event) = change.event
            && offset_of.insert(event, change.offset).is_some()
        {
            changed_twice.push(uuid_text(event));
        }
    }
    let no_alert = told.critical.iter().filter(|event| !offset_of.contains_key(&event.event_id));
    let mut checks = vec![
        Check::new("answered 200 is stored", promised.len(), lost),
        Check::new("stored was sent", stored.keys.len(), sorted(never_sent)),
        Check::new("stored once", stored.keys.len(), twice),
        Check::new(
            "the id answered is the id stored",
            told.critical.len(),
            other_id.map(|event| name(&event.key)),
        ),
    ];
    // Of somebody else's server only dashboards tell what changed.
    if stored.rows_of_vitals || !watched.lives.is_empty() {
        checks.push(Check::new(
            "a critical event changed an alert, once",
            told.critical.len(),
            no_alert.map(|event| name(&event.key)).chain(changed_twice),
        ));
    }
    if stored.rows_of_vitals {
        let events = stored.event_ids.len();
        checks.push(Check::new(
            "the health record of an event is stored",
            events,
            stored.without_vitals.iter().map(name),
        ));
        let corpus = told.corpus_events.len();
        if corpus > 0 {
            let lost = corpus_lost.map(|id| uuid_text(*id));
            checks.push(Check::new("answered 200 is stored (corpus)", corpus, lost));
        }
    }
    let last_needed = told.critical.iter().filter_map(|event| offset_of.get(&event.event_id)).max();
    if !watched.lives.is_empty() {
        checks.extend(check_screens(stored, watched, last_needed.copied().unwrap_or_default()));
    }
    let seen = || watched.lives.iter().flat_map(|life| &life.seen);
    let counts = Counts {
        stored: stored.keys.len() as u64,
        stored_unanswered: unanswered as u64,
        critical_changes: stored.changes.len() as u64,
        pushed: seen().count() as u64,
        resumed: seen().filter(|seen| !seen.live).count() as u64,
        gaps: watched.lives.iter().map(|life| life.gaps.len() as u64).sum(),
    };
    (checks, counts)
}

/// Every dashboard against the changes that it had to get, over all its connections.
fn check_screens(stored: &Stored, watched: &Watched, last_needed: u64) -> Vec<Check> {
    let (mut lost, mut foreign, mut disorder, mut hidden, mut behind, mut faults) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut expected_total = 0;
    let known: HashSet<u64> = stored.changes.iter().map(|change| change.offset).collect();
    for (index, life) in watched.lives.iter().enumerate() {
        let dashboard = format!("dashboard {}", index + 1);
        let seen: HashSet<u64> = life.seen.iter().map(|seen| seen.offset).collect();
        let due = stored
            .changes
            .iter()
            .filter(|change| change.offset > life.from_offset && change.offset <= life.complete_to);
        for change in due {
            expected_total += 1;
            if seen.contains(&change.offset) {
                continue;
            }
            match gap_of(life, change) {
                None => lost.push(format!("{} ({dashboard})", describe(change))),
                Some(shown) if !shown => hidden.push(format!("{} ({dashboard})", describe(change))),
                Some(_) => {}
            }
        }
        foreign.extend(
            seen.iter()
                .filter(|offset| !known.contains(offset))
                .map(|offset| format!("offset {offset} ({dashboard})")),
        );
        disorder.extend(
            life.seen
                .windows(2)
                .filter(|pair| pair[1].offset <= pair[0].offset)
                .map(|pair| format!("offset {} after {} ({dashboard})", pair[1].offset, pair[0].offset)),
        );
        if life.complete_to < last_needed {
            let last = life.seen.last().map_or(0, |seen| seen.offset);
            behind.push(format!(
                "{dashboard} at offset {} of {last_needed}, its last push was {last}, {} connections",
                life.complete_to, life.connections
            ));
        }
        faults.extend(life.faults.iter().map(|fault| format!("{fault} ({dashboard})")));
    }
    let pushed = watched.lives.iter().map(|life| life.seen.len()).sum();
    let screens = watched.lives.len();
    vec![
        Check::new("every dashboard got every critical change", expected_total, lost),
        Check::new("every push is a stored change", pushed, foreign),
        Check::new("in order, no push twice", pushed, disorder),
        Check::new("what a gap skipped is in its snapshot", expected_total, hidden),
        Check::new("every dashboard came to the end", screens, behind),
        Check::new("every frame is as documented", screens, faults),
    ]
}

/// Whether a gap covers the change, and its snapshot shows the alert.
fn gap_of(life: &Life, change: &Change) -> Option<bool> {
    let gap = life.gaps.iter().find(|gap| change.offset > gap.after && change.offset <= gap.to)?;
    let shown =
        change.alert_id.is_empty() || gap.truncated || gap.alerts.binary_search(&change.alert_id).is_ok();
    Some(shown)
}

fn describe(change: &Change) -> String {
    match change.event {
        Some(event) => format!("offset {}, event {}", change.offset, uuid_text(event)),
        None => format!("offset {}", change.offset),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Kind;
    use super::super::screens::{Gap, Seen};
    use super::*;

    fn sos(nth: u32) -> Key {
        Key::new(Kind::Sos, 1, nth)
    }

    /// Three SOS, all answered, stored, and on two dashboards.
    fn kept() -> (Told, Stored, Watched) {
        let critical: Vec<Promised> = (1..=3)
            .map(|nth| Promised { key: sos(nth), event_id: u128::from(nth) << 64, due_ns: 0, phase: 0 })
            .collect();
        let told = Told {
            promised: critical.iter().map(|event| event.key).collect(),
            critical: critical.clone(),
            ..Told::default()
        };
        let changes = (1..=3_u64).map(|offset| Change {
            offset,
            event: Some(u128::from(offset) << 64),
            alert_id: "9".into(),
        });
        let stored = Stored {
            keys: told.promised.iter().copied().collect(),
            event_ids: critical.iter().map(|event| (event.key, event.event_id)).collect(),
            changes: changes.collect(),
            rows_of_vitals: true,
            ..Stored::default()
        };
        let seen = (1..=3).map(|offset| Seen { offset, at_ns: 0, live: true }).collect();
        let life = Life { seen, complete_to: 3, ..Life::default() };
        (told, stored, Watched { lives: vec![life.clone(), life], ..Watched::default() })
    }

    /// Names of the broken checks, and everything that they name.
    fn broken((told, stored, watched): &(Told, Stored, Watched)) -> (Vec<&'static str>, String) {
        let (checks, _) = check(told, stored, watched, &Fleet::new(1_790_000_000_123));
        let broken: Vec<&Check> = checks.iter().filter(|check| !check.ok()).collect();
        let first = broken.iter().flat_map(|check| check.first.clone()).collect::<Vec<_>>().join("; ");
        (broken.iter().map(|check| check.name).collect(), first)
    }

    #[test]
    fn a_run_that_kept_its_promises_passes() {
        assert_eq!(broken(&kept()).0, Vec::<&str>::new());
    }

    #[test]
    fn a_200_that_is_not_stored_fails_and_is_named() {
        let mut run = kept();
        run.1.keys.remove(&sos(2));
        let (names, first) = broken(&run);
        assert_eq!(names, ["answered 200 is stored"]);
        assert!(first.contains("sos LAB") && first.contains("+2"), "{first}");
    }

    #[test]
    fn a_200_for_another_event_fails() {
        let mut run = kept();
        run.0.critical[0].event_id = 77;
        let (names, _) = broken(&run);
        assert_eq!(names, ["the id answered is the id stored", "a critical event changed an alert, once"]);
    }

    #[test]
    fn changes_that_nobody_could_have_told_of_are_not_asked_for() {
        let mut run = kept();
        run.1.changes.clear();
        run.2.lives.clear();
        assert_eq!(broken(&run).0, ["a critical event changed an alert, once"]);
        run.1.rows_of_vitals = false;
        assert_eq!(broken(&run).0, Vec::<&str>::new());
    }

    #[test]
    fn what_was_not_answered_may_be_stored_and_is_counted() {
        let mut run = kept();
        run.0.promised.retain(|key| *key != sos(3));
        run.0.critical.retain(|event| event.key != sos(3));
        assert_eq!(broken(&run).0, ["stored was sent"]);
        run.0.unsure.push(sos(3));
        assert_eq!(broken(&run).0, Vec::<&str>::new());
        let (_, counts) = check(&run.0, &run.1, &run.2, &Fleet::new(0));
        assert_eq!(counts.stored_unanswered, 1);
    }

    #[test]
    fn a_lost_push_fails_and_names_event_and_dashboard() {
        let mut run = kept();
        run.2.lives[1].seen.remove(1);
        let (names, first) = broken(&run);
        assert_eq!(names, ["every dashboard got every critical change"]);
        assert!(first.contains("offset 2, event") && first.contains("dashboard 2"), "{first}");
    }

    #[test]
    fn a_push_twice_or_out_of_order_or_from_nowhere_fails() {
        let mut run = kept();
        let again = run.2.lives[0].seen[1];
        run.2.lives[0].seen.push(again);
        assert_eq!(broken(&run).0, ["in order, no push twice"]);
        let mut run = kept();
        run.2.lives[0].seen.swap(0, 1);
        assert_eq!(broken(&run).0, ["in order, no push twice"]);
        let mut run = kept();
        run.2.lives[0].seen.push(Seen { offset: 4, at_ns: 0, live: true });
        assert_eq!(broken(&run).0, ["every push is a stored change"]);
    }

    #[test]
    fn a_gap_is_made_good_by_its_snapshot_only() {
        let mut run = kept();
        let life = &mut run.2.lives[0];
        life.seen.retain(|seen| seen.offset == 1);
        life.gaps = vec![Gap { after: 1, to: 3, alerts: vec!["9".into()], truncated: false }];
        assert_eq!(broken(&run).0, Vec::<&str>::new());
        run.2.lives[0].gaps[0].alerts.clear();
        assert_eq!(broken(&run).0, ["what a gap skipped is in its snapshot"]);
        run.2.lives[0].gaps[0].truncated = true;
        assert_eq!(broken(&run).0, Vec::<&str>::new());
    }

    #[test]
    fn a_dashboard_that_did_not_come_to_the_end_fails() {
        let mut run = kept();
        run.2.lives[0].seen.pop();
        run.2.lives[0].complete_to = 2;
        assert_eq!(broken(&run).0, ["every dashboard came to the end"]);
    }

    #[test]
    fn rows_twice_and_false_duplicates_fail() {
        let mut run = kept();
        run.1.twice.push(sos(1));
        assert_eq!(broken(&run).0, ["stored once"]);
        let mut run = kept();
        run.0.false_duplicates.push(sos(1));
        assert_eq!(broken(&run).0, ["stored once"]);
    }

    #[test]
    fn ten_are_named_and_all_are_counted() {
        let mut run = kept();
        run.0.promised.extend((10..40).map(sos));
        let (checks, _) = check(&run.0, &run.1, &run.2, &Fleet::new(0));
        assert_eq!((checks[0].broken, checks[0].first.len()), (30, 10));
    }
}
