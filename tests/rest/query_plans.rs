//! No list and no look-up scans a table or sorts: SQLite is asked how it would run each query.

use std::sync::{Arc, Mutex};

use diesel::connection::InstrumentationEvent;
use diesel::prelude::*;
use diesel::sql_types::Text;
use watchpost::domain::alert::{AlertState, Cause, Transition};
use watchpost::domain::days::Days;
use watchpost::domain::identity::sha256;
use watchpost::domain::ids::{AlertId, EventId, RuleId};
use watchpost::domain::owner::Scope;
use watchpost::domain::presence::Presence;
use watchpost::domain::rule::Severity;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::alerts::{self, AlertFilter, AlertKey};
use watchpost::storage::command::{Command, NewQuarantine, TokenKind};
use watchpost::storage::database::Conn;
use watchpost::storage::devices::DeviceFilter;
use watchpost::storage::events::{self, EventFilter};
use watchpost::storage::history::{self, Window};
use watchpost::storage::page::PageLimit;
use watchpost::storage::quarantine::QuarantineFilter;
use watchpost::storage::{bindings, devices, overview, owners, quarantine, rules, tokens};

use super::store::{NOW, PATIENCE, Store, bind, binding, customer, run, scope, sn, token};

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Runs `read` and refuses every query of it that scans or sorts.
fn check(store: &mut Store, what: &str, read: impl FnOnce(&mut Conn)) {
    for (query, step) in plan(store, read) {
        assert!(!step.contains("SCAN") && !step.contains("TEMP B-TREE"), "{what}: {step}\n{query}");
    }
}

/// Runs `read` and asks SQLite about every query of it: the query, and a step of its plan.
fn plan(store: &mut Store, read: impl FnOnce(&mut Conn)) -> Vec<(String, String)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    store.conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            log.lock().expect("no panic").push(query.to_string());
        }
    });
    read(&mut store.conn);
    store.conn.set_instrumentation(|_: InstrumentationEvent<'_>| {});
    let queries = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert!(!queries.is_empty(), "nothing was asked");
    let mut plan = Vec::new();
    for query in queries {
        let sql = query.split(" -- binds").next().expect("SQL");
        if !["SELECT", "UPDATE", "DELETE"].into_iter().any(|verb| sql.starts_with(verb)) {
            continue;
        }
        let steps: Vec<Step> =
            diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut store.conn).expect("a plan");
        plan.extend(steps.into_iter().map(|step| (sql.to_owned(), step.detail)));
    }
    plan
}

/// Every subset of `parts` applied to a default filter.
fn subsets<F: Default>(parts: &[fn(&mut F)]) -> Vec<F> {
    let with = |bits: usize| {
        let mut filter = F::default();
        for (at, part) in parts.iter().enumerate() {
            if bits & (1 << at) != 0 {
                part(&mut filter);
            }
        }
        filter
    };
    (0..1 << parts.len()).map(with).collect()
}

#[test]
fn lists_walk_one_index_under_every_combination_of_filters() {
    let mut store = Store::new();
    let limit = PageLimit::default();
    let event_filters = subsets::<EventFilter>(&[
        |filter| filter.device_sn = Some(sn("A")),
        |filter| filter.event_type = Some("SOS".into()),
        |filter| filter.customer_id = Some(customer("1")),
        |filter| filter.from = Some(UtcMillis(1)),
        |filter| filter.to = Some(NOW),
    ]);
    let alert_filters = subsets::<AlertFilter>(&[
        |filter| filter.device_sn = Some(sn("A")),
        |filter| filter.state = Some(AlertState::Raised),
        |filter| filter.open = Some(filter.state.is_none()),
        |filter| filter.severities = vec![Severity::High],
        |filter| filter.severities = vec![Severity::High, Severity::Critical],
        |filter| filter.rule_id = Some(RuleId::parse("sos").expect("an id")),
        |filter| filter.customer_id = Some(customer("1")),
        |filter| filter.from = Some(UtcMillis(1)),
    ]);
    super::rows::insert_device(&mut store.conn, "A", "1");
    let device_filters = subsets::<DeviceFilter>(&[
        |filter| filter.customer_id = Some(customer("1")),
        |filter| filter.search = Some("a".into()),
        |filter| filter.state = Some(Presence::Silent),
    ]);
    let key = AlertKey { raised: NOW, alert_id: AlertId(1) };
    for scope in [Scope::All, scope("1")] {
        for filter in &event_filters {
            for before in [None, Some(EventId([1; 16]))] {
                check(&mut store, &format!("{scope:?} {filter:?}"), |conn| {
                    events::list(conn, &scope, filter, before, limit).expect("events");
                });
            }
        }
        for filter in &alert_filters {
            for after in [None, Some(key)] {
                check(&mut store, &format!("{scope:?} {filter:?}"), |conn| {
                    alerts::list(conn, &scope, filter, after, limit).expect("alerts");
                });
            }
        }
        for filter in &device_filters {
            check(&mut store, &format!("{scope:?} {filter:?}"), |conn| {
                devices::list(conn, &scope, filter, PATIENCE, None, limit).expect("devices");
            });
        }
        check(&mut store, "rules", |conn| {
            rules::list(conn, &scope, None, limit).expect("rules");
        });
        check(&mut store, "tokens", |conn| {
            tokens::list(conn, &scope, None, limit).expect("tokens");
        });
    }
    let quarantine_filters = subsets::<QuarantineFilter>(&[
        |filter| filter.route = Some("/x".into()),
        |filter| filter.names_emergency = Some(filter.route.is_none()),
    ]);
    for filter in &quarantine_filters {
        check(&mut store, &format!("quarantine {filter:?}"), |conn| {
            quarantine::list(conn, &Scope::All, filter, Some(7), limit).expect("bodies");
        });
    }
}

#[test]
fn look_ups_find_their_row_by_an_index() {
    let mut store = Store::new();
    super::rows::insert_device(&mut store.conn, "A", "1");
    let id = AlertId(1);
    for scope in [Scope::All, scope("1")] {
        check(&mut store, "alert", |conn| {
            alerts::get(conn, &scope, id).expect("an alert");
            alerts::changes(conn, &scope, id).expect("changes");
            alerts::viewed(conn, id).expect("viewers");
            let cause = Cause::Action("c".into());
            alerts::has_change(conn, id, &cause, Transition::Resolved).expect("a change");
        });
        check(&mut store, "device", |conn| {
            devices::get(conn, &scope, &sn("A"), PATIENCE).expect("a device").expect("a device");
            let window = Window::new(NOW, 168).expect("a window");
            history::track(conn, &scope, &sn("A"), window).expect("a track").expect("a device");
        });
        check(&mut store, "rule", |conn| {
            rules::get(conn, &scope, &RuleId::parse("sos").expect("an id")).expect("a rule");
        });
        check(&mut store, "binding", |conn| {
            bindings::conflicts(conn, &[&binding("A", "1", "o", "p")], &scope).expect("a check");
        });
    }
    check(&mut store, "owners", |conn| {
        owners::owners(conn, &[sn("A"), sn("B")]).expect("owners");
        owners::visible(conn, &scope("1"), &[sn("A"), sn("B")]).expect("devices");
    });
    check(&mut store, "quarantine", |conn| {
        quarantine::get(conn, &Scope::All, 1).expect("a body");
        quarantine::held(conn).expect("its size");
    });
    check(&mut store, "token", |conn| {
        tokens::token_by_hash(conn, &[1; 32], NOW).expect("a token");
        tokens::is_live_code(conn, &[1; 32], NOW).expect("a code");
    });
}

#[test]
fn figures_are_counted_within_ranges_of_an_index() {
    let mut store = Store::new();
    let days = Days::at(NOW, &chrono_tz::Asia::Shanghai);
    for scope in [Scope::All, scope("1")] {
        check(&mut store, "overview", |conn| {
            overview::read(conn, &scope, &days, 900).expect("figures");
        });
    }
}

#[test]
fn a_chart_reads_the_samples_of_its_device_and_hours_and_groups_only_those() {
    let mut store = Store::new();
    super::rows::insert_device(&mut store.conn, "A", "1");
    let window = Window::new(NOW, 168).expect("a window");
    for scope in [Scope::All, scope("1")] {
        let steps = plan(&mut store, |conn| {
            history::series(conn, &scope, &sn("A"), window).expect("a chart").expect("a device");
        });
        // SQLite does not see that steps of an ordered column are ordered too.
        let grouping = "USE TEMP B-TREE FOR GROUP BY";
        let reads: Vec<&String> =
            steps.iter().map(|(_, step)| step).filter(|step| *step != grouping).collect();
        let ranges = "SEARCH vitals USING INDEX sqlite_autoindex_vitals_1 (device_sn=? AND measured_ms>? AND measured_ms<?)";
        assert_eq!(reads.last().map(|step| step.as_str()), Some(ranges), "{reads:?}");
        assert!(reads.iter().all(|step| step.starts_with("SEARCH")), "{reads:?}");
    }
}

#[test]
fn commands_find_what_they_change_by_an_index() {
    let mut store = Store::new();
    let by = || "ann".to_owned();
    let quarantine = NewQuarantine {
        body_hash: [1; 32],
        body: vec![1],
        size_bytes: 1,
        route: "/x",
        reason: "not JSON".into(),
        names_emergency: false,
        bodies_max: 10,
        bytes_max: 10,
    };
    let mut rule = super::rows::sos_rule();
    rule.name = "Help".into();
    let code = token("t.c", "code", TokenKind::LoginCode, None);
    let session = token("s", "session", TokenKind::Session, None);
    let commands = [
        bind(binding("A", "1", "o1", "p1")),
        bind(binding("A", "1", "o1", "p2")),
        Command::EndBinding { device_sn: sn("A"), scope: Scope::All, actor: by() },
        Command::PutRule { rule, replace: true, actor: by() },
        Command::DeleteRule { rule_id: RuleId::parse("high").expect("an id"), actor: by() },
        Command::CreateToken(token("t", "secret", TokenKind::Admin, None)),
        Command::CreateToken(code),
        Command::RedeemLoginCode { code_hash: sha256(b"code"), session },
        Command::RevokeToken { token_id: "t".into() },
        Command::Quarantine(quarantine.clone()),
        Command::Quarantine(quarantine.clone()),
        // This one has to make room.
        Command::Quarantine(NewQuarantine {
            body_hash: [2; 32],
            body: vec![1; 10],
            names_emergency: true,
            ..quarantine
        }),
        Command::DeleteQuarantine { quarantine_id: 2 },
    ];
    for command in commands {
        check(&mut store, &format!("{command:?}"), |conn| {
            run(conn, command.clone(), NOW).expect("it is carried out");
        });
    }
}
