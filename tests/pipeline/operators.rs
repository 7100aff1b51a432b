//! What operators do about an alert: comments, outcomes, races, and who has had it on the screen.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::bodies::{self, EVENTS};
use crate::support::stream::{StreamClient, transitions};
use crate::support::{Answer, TestApp, eventually};

async fn alert(app: &TestApp, id: &Value) -> Value {
    app.get(&format!("/api/v1/alerts/{}", id.as_str().expect("an id"))).await.body
}

async fn post(app: &TestApp, id: &Value, action: &str, said: Value) -> Answer {
    let path = format!("/api/v1/alerts/{}/{action}", id.as_str().expect("an id"));
    app.api(Method::POST, &path, Some(&said)).await
}

fn column<'a>(rows: &'a Value, member: &str) -> Vec<&'a Value> {
    rows.as_array().expect("rows").iter().map(|row| &row[member]).collect()
}

#[actix_web::test]
async fn a_comment_is_possible_in_every_state_and_leaves_it_as_it_is() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    let id = app.stored(EVENTS, &bodies::sos("w1", 0)).await["alert_id"].clone();
    for (action, state) in [("comment", "raised"), ("acknowledge", "acknowledged"), ("resolve", "resolved")] {
        if action != "comment" {
            app.act(&id, action).await;
        }
        let note = format!("it is {state}");
        let commented = app.act_with(&id, "comment", &json!({ "note": note, "command_id": state })).await;
        assert_eq!(commented["state"], state);
        // The same command again is the same comment.
        let again = app.act_with(&id, "comment", &json!({ "note": note, "command_id": state })).await;
        assert_eq!(again["state"], state);
    }
    let pushed = screen.alerts_so_far(&app).await;
    let expected = ["raised", "commented", "acknowledged", "commented", "resolved", "commented"];
    assert_eq!(transitions(&pushed), expected);
    assert_eq!(pushed[5]["change"]["note"], "it is resolved");
    assert_eq!(pushed[5]["alert"]["state"], "resolved");
    let shown = alert(&app, &id).await;
    assert_eq!(column(&shown["changes"], "transition"), expected);
    assert_eq!((&shown["state"], &shown["count"]), (&json!("resolved"), &json!(1)));
    // A comment on what was resolved opens nothing.
    let open = app.get("/api/v1/alerts?open=true").await;
    assert_eq!(open.body["items"], json!([]));
    let app = app.restart().await;
    let snapshot_of_none = app.get("/api/v1/alerts?open=true").await;
    assert_eq!(snapshot_of_none.body["items"], json!([]));
}

#[actix_web::test]
async fn a_comment_needs_a_note_and_only_a_resolve_takes_an_outcome() {
    let app = TestApp::start().await;
    let id = app.stored(EVENTS, &bodies::sos("w1", 0)).await["alert_id"].clone();
    for said in
        [json!({}), json!({"note": null}), json!({"note": " \n\t"}), json!({"note": "x".repeat(2_001)})]
    {
        assert_eq!(post(&app, &id, "comment", said.clone()).await.status, 400, "{said}");
    }
    for action in ["acknowledge", "comment"] {
        let said = json!({"note": "x", "outcome": "helped"});
        assert_eq!(post(&app, &id, action, said).await.status, 400, "{action}");
    }
    assert_eq!(post(&app, &id, "resolve", json!({"outcome": "won"})).await.status, 400);
    let nobody = json!("1");
    assert_eq!(post(&app, &nobody, "comment", json!({"note": "x"})).await.status, 404);
    assert_eq!(app.logged_transitions(), ["raised"]);
}

#[actix_web::test]
async fn an_outcome_is_kept_with_the_alert_and_with_the_change_that_resolved_it() {
    let app = TestApp::start().await;
    let mut screen = StreamClient::open(&app, &app.admin).await;
    for (number, outcome) in ["helped", "false_alarm", "test", "other"].into_iter().enumerate() {
        let id = app.stored(EVENTS, &bodies::sos("w1", number as i64)).await["alert_id"].clone();
        let said = json!({"outcome": outcome, "note": "done"});
        let resolved = app.act_with(&id, "resolve", &said).await;
        assert_eq!((&resolved["state"], &resolved["outcome"]), (&json!("resolved"), &json!(outcome)));
        app.act_with(&id, "comment", &json!({"note": "for the record"})).await;
        let pushed = screen.alerts_so_far(&app).await;
        assert_eq!(
            column(&json!(pushed), "change").iter().map(|change| &change["outcome"]).collect::<Vec<_>>(),
            [&Value::Null, &json!(outcome), &Value::Null]
        );
        assert_eq!(pushed[2]["alert"]["outcome"], outcome);
        let shown = alert(&app, &id).await;
        assert_eq!(shown["outcome"], outcome);
        assert_eq!(column(&shown["changes"], "outcome"), [&Value::Null, &json!(outcome), &Value::Null]);
    }
    let id = app.stored(EVENTS, &bodies::sos("w1", 9)).await["alert_id"].clone();
    assert_eq!(app.act(&id, "resolve").await["outcome"], Value::Null);
    let stored = app.texts("SELECT outcome AS value FROM alert ORDER BY last_offset");
    let expected = ["helped", "false_alarm", "test", "other"].map(|outcome| Some(outcome.to_owned()));
    assert_eq!((&stored[..4], &stored[4]), (&expected[..], &None));
    let logged = app.texts("SELECT outcome AS value FROM alert_change WHERE transition = 'resolved'");
    assert_eq!((&logged[..4], &logged[4]), (&expected[..], &None));
}

#[actix_web::test]
async fn of_two_who_try_at_once_one_wins_and_the_other_learns_who_was_first() {
    let app = TestApp::start().await;
    let ann =
        app.api(Method::POST, "/api/v1/tokens", Some(&json!({"name": "ann"}))).await.body["token"].clone();
    let ann = ann.as_str().expect("a token");
    for (second, action, by) in [(0, "acknowledge", "acknowledged_by"), (1, "resolve", "resolved_by")] {
        let id = app.stored(EVENTS, &bodies::sos(&format!("w{second}"), second)).await["alert_id"].clone();
        let path = format!("/api/v1/alerts/{}/{action}", id.as_str().expect("an id"));
        let said = json!({});
        let (mine, hers) = tokio::join!(
            app.api(Method::POST, &path, Some(&said)),
            app.api_as(ann, Method::POST, &path, Some(&said))
        );
        let mut statuses = [mine.status.as_u16(), hers.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", mine.body, hers.body);
        let (won, lost) = if mine.status == 200 { (mine, hers) } else { (hers, mine) };
        let present = &lost.body["present"];
        assert_eq!(present[by], won.body[by]);
        assert_eq!(present[by.replace("_by", "_at")], won.body[by.replace("_by", "_at")]);
        let who = won.body[by].as_str().expect("a name");
        assert!(lost.body["detail"].as_str().expect("a sentence").ends_with(&format!("by {who}")));
    }
}

#[actix_web::test]
async fn an_alert_says_who_has_had_it_on_the_screen_and_when_first() {
    let app = TestApp::start().await;
    let ann =
        app.api(Method::POST, "/api/v1/tokens", Some(&json!({"name": "ann"}))).await.body["token"].clone();
    let ann = ann.as_str().expect("a token");
    let old = app.stored(EVENTS, &bodies::sos("w1", 0)).await["alert_id"].clone();
    let mut hers = StreamClient::connect(&app, ann).await;
    hers.subscribe(json!({"devices": ["w1"]}), None).await;
    assert_eq!(hers.next().await["alerts"][0]["alert_id"], old);
    let mut mine = StreamClient::open(&app, &app.admin).await;
    let new = app.stored(EVENTS, &bodies::sos("w2", 1)).await["alert_id"].clone();
    let last = mine.next_alert().await["offset"].as_i64().expect("an offset");
    let viewers = |id: Value| {
        let app = &app;
        async move { column(&alert(app, &id).await["shown"], "viewer").into_iter().cloned().collect::<Vec<_>>() }
    };
    mine.shown(last).await;
    eventually("the new one is recorded", || async {
        (viewers(new.clone()).await == ["admin"]).then_some(())
    })
    .await;
    app.advance_ms(60_000);
    // Of the second one, her filter has shown her nothing, although its offset is behind her.
    hers.alerts_so_far(&app).await;
    hers.shown(last).await;
    eventually("both have seen the old one", || async {
        (viewers(old.clone()).await == ["admin", "ann"]).then_some(())
    })
    .await;
    assert_eq!(viewers(new).await, ["admin"]);
    let first = alert(&app, &old).await["shown"].clone();
    assert!(first[0]["at"].as_str() < first[1]["at"].as_str(), "{first}");
    // Once more on the screen is not the first time.
    let mut again = StreamClient::open(&app, ann).await;
    app.advance_ms(60_000);
    again.shown(last).await;
    let newest = app.stored(EVENTS, &bodies::sos("w3", 2)).await["alert_id"].clone();
    let last = again.next_alert().await["offset"].as_i64().expect("an offset");
    again.shown(last).await;
    eventually("the newest is recorded", || async {
        (viewers(newest.clone()).await == ["ann"]).then_some(())
    })
    .await;
    assert_eq!(alert(&app, &old).await["shown"], first);
}
