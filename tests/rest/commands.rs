//! Administrative commands, executed as the writer does.

use diesel::prelude::*;
use watchpost::domain::identity::sha256;
use watchpost::domain::ids::{AlertId, RuleId};
use watchpost::domain::owner::{Owner, Scope};
use watchpost::domain::rule::{Condition, Rule, Severity};
use watchpost::domain::rule_seeds;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::command::{
    Command, CommandError, CommandReply, NewDeviceMessage, NewQuarantine, NewToken, NewWatchLog, TokenKind,
};
use watchpost::storage::page::PageLimit;
use watchpost::storage::schema::{alert_shown, device_message, quarantine, watch_log};
use watchpost::storage::tokens::token_by_hash;
use watchpost::storage::{owners, rules};

use super::store::{NOW, Store, bind, binding, run, scope, sn, token};

fn rule(id: &str) -> Rule {
    Rule {
        rule_id: RuleId::parse(id).expect("an id"),
        customer_id: None,
        name: "Door".into(),
        severity: Severity::Low,
        enabled: true,
        built_in: false,
        version: 1,
        condition: Condition::Event { event_type: "DOOR*".into(), value: None, resolved_by_value: None },
    }
}

fn put(rule: Rule, replace: bool) -> Command {
    Command::PutRule { rule, replace, actor: "ann".into() }
}

fn stored(reply: CommandReply) -> Rule {
    match reply {
        CommandReply::Rule(rule) => rule,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_rule_is_created_once_and_its_version_grows_with_each_change() {
    let mut store = Store::new();
    assert_eq!(stored(store.run(put(rule("door"), false)).expect("a new rule")).version, 1);
    assert!(matches!(store.run(put(rule("door"), false)), Err(CommandError::Conflict(_))));
    assert!(matches!(store.run(put(rule("none"), true)), Err(CommandError::NotFound(_))));
    let changed = Rule { severity: Severity::High, ..rule("door") };
    for _ in 0..2 {
        // The same command again changes nothing.
        assert_eq!(stored(store.run(put(changed.clone(), true)).expect("a replacement")).version, 2);
    }
    let nameless = Rule { name: " ".into(), ..rule("nameless") };
    assert!(matches!(store.run(put(nameless, false)), Err(CommandError::Invalid(_))));
    let delete = Command::DeleteRule { rule_id: rule("door").rule_id, actor: "ann".into() };
    store.run(delete.clone()).expect("a deletion");
    assert!(matches!(store.run(delete), Err(CommandError::NotFound(_))));
}

#[test]
fn an_emergency_rule_keeps_what_makes_it_one() {
    let mut store = Store::new();
    let sos = rule_seeds::emergencies().remove(0);
    let forbidden = [
        Rule { enabled: false, ..sos.clone() },
        Rule { severity: Severity::High, ..sos.clone() },
        Rule { condition: rule("x").condition, ..sos.clone() },
    ];
    for attempt in forbidden {
        assert!(matches!(store.run(put(attempt, true)), Err(CommandError::Conflict(_))));
    }
    let delete = Command::DeleteRule { rule_id: sos.rule_id.clone(), actor: "ann".into() };
    assert!(matches!(store.run(delete), Err(CommandError::Conflict(_))));
    let renamed = Rule { name: "Help".into(), built_in: false, ..sos.clone() };
    let renamed = stored(store.run(put(renamed, true)).expect("a new name"));
    assert!(renamed.built_in && renamed.name == "Help");
    let page = rules::list(&mut store.conn, &Scope::All, None, PageLimit::default()).expect("rules");
    assert_eq!(page.items.len(), rule_seeds::seeds().len());
}

#[test]
fn a_binding_is_kept_if_it_is_the_same_and_ended_if_it_is_another() {
    let mut store = Store::new();
    let owner = |reply| match reply {
        CommandReply::Owner(owner) => owner,
        other => unreachable!("{other:?}"),
    };
    let first = owner(store.run(bind(binding("A", "1", "o1", "p1"))).expect("bound"));
    assert_eq!(first.person_name.as_deref(), Some("Person p1"));
    let again = owner(store.run(bind(binding("A", "1", "o1", "p1"))).expect("bound"));
    assert_eq!(again, first);
    let next = owner(store.run(bind(binding("A", "1", "o1", "p2"))).expect("bound"));
    assert!(next.binding_id > first.binding_id);
    let history = owners::history(&mut store.conn, &Scope::All, &sn("A")).expect("history");
    let open: Vec<bool> = history.iter().map(|period| period.unbound_at.is_none()).collect();
    assert_eq!(open, [true, false]);

    let end = Command::EndBinding { device_sn: sn("A"), scope: Scope::All, actor: "bob".into() };
    for _ in 0..2 {
        assert_eq!(owner(store.run(end.clone()).expect("ended")), Owner::unbound());
    }
    assert!(owners::owners(&mut store.conn, &[sn("A"), sn("B")]).expect("owners").is_empty());
}

#[test]
fn nobody_is_taken_from_another_customer() {
    let mut store = Store::new();
    store.run(bind(binding("A", "1", "o1", "p1"))).expect("bound");
    for wrong in [binding("B", "2", "o1", "p2"), binding("B", "2", "o2", "p1")] {
        assert!(matches!(store.run(bind(wrong)), Err(CommandError::Conflict(_))));
    }
    let steal = |device: &str, to: &str| Command::PutBinding {
        binding: binding(device, to, "o2", "p2"),
        scope: scope("2"),
        actor: "eve".into(),
    };
    assert!(matches!(store.run(steal("A", "2")), Err(CommandError::Conflict(_))));
    assert!(matches!(store.run(steal("C", "1")), Err(CommandError::Conflict(_))));
    store.run(steal("C", "2")).expect("a device that nobody has");
    let end = Command::EndBinding { device_sn: sn("A"), scope: scope("2"), actor: "eve".into() };
    assert!(matches!(store.run(end), Err(CommandError::NotFound(_))));
}

#[test]
fn an_import_is_all_or_nothing_and_tells_what_changed() {
    let mut store = Store::new();
    store.run(bind(binding("A", "1", "o1", "p1"))).expect("bound");
    let import = |bindings| Command::ImportBindings { bindings, scope: Scope::All, actor: "ann".into() };
    let bad = vec![binding("B", "1", "o1", "p2"), binding("C", "2", "o1", "p3")];
    assert!(matches!(store.run(import(bad)), Err(CommandError::Conflict(_))));
    assert!(owners::owners(&mut store.conn, &[sn("B"), sn("C")]).expect("owners").is_empty());
    let good = vec![binding("A", "1", "o1", "p1"), binding("B", "1", "o1", "p2")];
    match store.run(import(good)).expect("imported") {
        CommandReply::Imported { changed } => assert_eq!(changed, [sn("B")]),
        other => unreachable!("{other:?}"),
    }
}

fn caller_of(store: &mut Store, text: &str, now: UtcMillis) -> Option<String> {
    let hash = sha256(text.as_bytes());
    token_by_hash(&mut store.conn, &hash, now).expect("a look-up").map(|caller| caller.token_id)
}

#[test]
fn a_token_works_until_it_is_revoked_and_takes_its_sessions_along() {
    let mut store = Store::new();
    let create = |id: &str, text: &str| Command::CreateToken(token(id, text, TokenKind::Admin, Some("1")));
    for _ in 0..2 {
        store.run(create("t1", "secret")).expect("a token");
    }
    assert!(matches!(store.run(create("t1", "other")), Err(CommandError::Conflict(_))));
    store.run(create("t1.s", "session")).expect("a session");
    store.run(create("t10", "neighbour")).expect("another token");
    assert_eq!(caller_of(&mut store, "secret", NOW).as_deref(), Some("t1"));
    for _ in 0..2 {
        store.run(Command::RevokeToken { token_id: "t1".into() }).expect("revoked");
    }
    let left = ["secret", "session", "neighbour"].map(|text| caller_of(&mut store, text, NOW).is_some());
    assert_eq!(left, [false, false, true]);
    let unknown = store.run(Command::RevokeToken { token_id: "t2".into() });
    assert!(matches!(unknown, Err(CommandError::NotFound(_))));
}

#[test]
fn a_login_code_works_once_and_not_after_its_time() {
    let mut store = Store::new();
    let expires = Some(NOW.saturating_add_ms(600_000));
    let code = NewToken { expires, ..token("t1.c", "code", TokenKind::LoginCode, Some("1")) };
    let late = NewToken { expires: Some(NOW), ..token("t1.d", "late", TokenKind::LoginCode, None) };
    store.run(Command::CreateToken(code)).expect("a code");
    store.run(Command::CreateToken(late)).expect("a code");
    assert_eq!(caller_of(&mut store, "code", NOW), None, "a code is no token");
    let redeem = |code: &str, session: &str| Command::RedeemLoginCode {
        code_hash: sha256(code.as_bytes()),
        session: NewToken { expires, ..token("s", session, TokenKind::Session, None) },
    };
    for _ in 0..2 {
        store.run(redeem("code", "session")).expect("the same command is the same session");
    }
    assert!(matches!(store.run(redeem("code", "thief")), Err(CommandError::Conflict(_))));
    assert!(matches!(store.run(redeem("late", "session")), Err(CommandError::Conflict(_))));
    assert!(matches!(store.run(redeem("none", "session")), Err(CommandError::NotFound(_))));
    let hash = sha256(b"session");
    let caller = token_by_hash(&mut store.conn, &hash, NOW).expect("a look-up").expect("a session");
    assert_eq!((caller.name.as_str(), caller.scope), ("t1.c", scope("1")));
    assert_eq!(caller_of(&mut store, "session", NOW.saturating_add_ms(600_000)), None);
}

#[test]
fn quarantine_counts_repeats_and_drops_the_oldest_at_its_limits() {
    let mut store = Store::new();
    let mut keep = |body: &[u8], now: i64| {
        let new = NewQuarantine {
            body_hash: sha256(body),
            body: body.to_vec(),
            size_bytes: body.len() as u64,
            route: "/x",
            reason: "not JSON".into(),
            names_emergency: false,
            bodies_max: 3,
            bytes_max: 10,
        };
        match run(&mut store.conn, Command::Quarantine(new), UtcMillis(now)).expect("kept") {
            CommandReply::Quarantined { quarantine_id, seen_count } => (quarantine_id, seen_count),
            other => unreachable!("{other:?}"),
        }
    };
    assert_eq!([keep(b"aa", 1), keep(b"bb", 2), keep(b"aa", 3)], [(1, 1), (2, 1), (1, 2)]);
    // One more than three bodies: bb has not been seen for longest.
    assert_eq!([keep(b"cc", 4), keep(b"dd", 5), keep(b"bb", 6)], [(3, 1), (4, 1), (5, 1)]);
    // More than ten bytes.
    keep(b"eeeeeeeeeeee", 7);
    let kept: Vec<Vec<u8>> =
        quarantine::table.select(quarantine::body).load(&mut store.conn).expect("bodies");
    assert_eq!(kept, [b"eeeeeeeeee".to_vec()]);
}

#[test]
fn what_names_an_emergency_leaves_quarantine_last() {
    let mut store = Store::new();
    let mut keep = |body: &[u8], names_emergency: bool, now: i64| {
        let new = NewQuarantine {
            body_hash: sha256(body),
            body: body.to_vec(),
            size_bytes: body.len() as u64,
            route: "/x",
            reason: "not JSON".into(),
            names_emergency,
            bodies_max: 3,
            bytes_max: 100,
        };
        let reply = run(&mut store.conn, Command::Quarantine(new), UtcMillis(now)).expect("an answer");
        let kept = matches!(reply, CommandReply::Quarantined { .. });
        let bodies: Vec<Vec<u8>> = quarantine::table
            .order(quarantine::quarantine_id)
            .select(quarantine::body)
            .load(&mut store.conn)
            .expect("bodies");
        (kept, String::from_utf8(bodies.join(&b' ')).expect("text"))
    };
    let full = |text: &str| (true, text.to_owned());
    keep(b"SOS1", true, 1);
    keep(b"b", false, 2);
    assert_eq!(keep(b"SOS2", true, 3), full("SOS1 b SOS2"));
    assert_eq!(keep(b"c", false, 4), full("SOS1 SOS2 c"), "b is younger than SOS1, and goes");
    // One that needs the room of an emergency as well makes none go, c included.
    assert_eq!(keep(&[b'x'; 97], false, 5), (false, "SOS1 SOS2 c".into()));
    assert_eq!(keep(b"SOS3", true, 6), full("SOS1 SOS2 SOS3"));
    assert_eq!(keep(b"d", false, 7), (false, "SOS1 SOS2 SOS3".into()));
    assert_eq!(keep(b"SOS4", true, 8), full("SOS2 SOS3 SOS4"));
    // Counted along with it all: room that was made is there.
    for quarantine_id in [2, 3] {
        let gone = run(&mut store.conn, Command::DeleteQuarantine { quarantine_id }, NOW);
        assert_eq!(gone.is_ok(), quarantine_id == 3, "number 2 has gone already");
    }
    let held = watchpost::storage::quarantine::held(&mut store.conn).expect("a size");
    assert_eq!((held.bodies, held.bytes), (2, 8));
}

#[test]
fn logs_messages_and_screens_are_stored_once() {
    let mut store = Store::new();
    let log = |number: u8| NewWatchLog {
        device_sn: sn("A"),
        logged_at: NOW,
        level: (number.is_multiple_of(2)).then(|| "INFO".into()),
        content: "text".into(),
        log_key: [number; 32],
    };
    let message =
        NewDeviceMessage { device_sn: sn("A"), message_id: None, body: "{}".into(), message_key: [1; 32] };
    for _ in 0..2 {
        store.run(Command::StoreWatchLogs((0..5).map(log).collect())).expect("logs");
        store.run(Command::StoreDeviceMessage(message.clone())).expect("a message");
        let shown = Command::RecordShown { viewer: "ann".into(), alerts: vec![(AlertId(1), NOW)] };
        store.run(shown).expect("shown");
    }
    let logs: i64 = watch_log::table.count().get_result(&mut store.conn).expect("a count");
    let messages: i64 = device_message::table.count().get_result(&mut store.conn).expect("a count");
    let shown: i64 = alert_shown::table.count().get_result(&mut store.conn).expect("a count");
    assert_eq!((logs, messages, shown), (5, 1, 1));
}
