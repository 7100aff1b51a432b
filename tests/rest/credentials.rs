//! Tokens, browser sessions and sign-in links.

use actix_web::http::{Method, StatusCode};
use serde_json::json;
use watchpost::api::credentials::{ADMIN_TOKEN_FILE, create_login_code, ensure_admin_token};
use watchpost::cli::client::ServerArgs;
use watchpost::cli::login_link::{self, LoginLinkArgs};
use watchpost::cli::token::{self, TokenCommand};
use watchpost::config::Config;

use super::server::{ADMIN, Answer, Server};

#[actix_web::test]
async fn a_token_is_shown_once_works_and_is_refused_from_its_revocation_on() {
    let server = Server::start().await;
    let made = server.post(ADMIN, "/api/v1/tokens", json!({ "name": "ann", "customer_id": "1" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let (id, secret) =
        (made.body["token_id"].as_str().expect("id"), made.body["token"].as_str().expect("token"));
    assert!(secret.starts_with("wpt_") && secret.len() == 68);
    let list = server.get(ADMIN, "/api/v1/tokens").await;
    assert!(list.text.contains(id) && !list.text.contains(secret));
    let who = server.get(secret, "/api/v1/session").await;
    assert_eq!(who.body, json!({ "name": "ann", "customer_id": "1", "expires_at": null }));

    let refused = server.post(secret, "/api/v1/tokens", json!({ "name": "eve" })).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let revoke = format!("/api/v1/tokens/{id}");
    let revoked = server.call(ADMIN, Method::DELETE, &revoke, json!(null)).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(secret, "/api/v1/session").await.status, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

/// `name=value` of the cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let header = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(header.contains(part), "{header}");
    }
    header.split(';').next().expect("a pair").to_owned()
}

#[actix_web::test]
async fn a_browser_signs_in_with_a_code_once() {
    let server = Server::start().await;
    let code = server.post(ADMIN, "/api/v1/login-codes", json!(null)).await;
    assert_eq!(code.status, StatusCode::CREATED);
    let sign_in = json!({ "code": code.body["code"] });
    let signed_in = server.post("", "/api/v1/session", sign_in.clone()).await;
    assert_eq!(signed_in.status, StatusCode::OK, "{}", signed_in.text);
    let cookie = cookie(&signed_in);
    let who = server.send(Method::GET, "/api/v1/session", &[("Cookie", &cookie)], "").await;
    assert_eq!(who.body["name"], "admin");
    let again = server.post("", "/api/v1/session", sign_in).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);

    let out = server.send(Method::DELETE, "/api/v1/session", &[("Cookie", &cookie)], "").await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let gone = server.send(Method::GET, "/api/v1/session", &[("Cookie", &cookie)], "").await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.get(ADMIN, "/api/v1/session").await.status, StatusCode::OK);
    server.stop().await;
}

#[actix_web::test]
async fn a_session_ends_with_the_token_that_it_was_made_from_and_makes_no_other() {
    let server = Server::start().await;
    server.add_token("ann", "wpt_ann", Some("1"));
    let signed_in = server.post("", "/api/v1/session", json!({ "token": "wpt_ann" })).await;
    let cookie = cookie(&signed_in);
    let session = cookie.split_once('=').expect("a pair").1;
    let prolonged = server.post("", "/api/v1/session", json!({ "token": session })).await;
    assert_eq!(prolonged.status, StatusCode::UNAUTHORIZED);
    let who = server.send(Method::GET, "/api/v1/session", &[("Cookie", &cookie)], "").await;
    let expires_at = &signed_in.body["expires_at"];
    assert!(expires_at.is_string(), "{}", signed_in.text);
    assert_eq!(who.body, json!({ "name": "ann", "customer_id": "1", "expires_at": expires_at }));
    server.call(ADMIN, Method::DELETE, "/api/v1/tokens/ann", json!(null)).await;
    let gone = server.send(Method::GET, "/api/v1/session", &[("Cookie", &cookie)], "").await;
    assert_eq!(gone.status, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[actix_web::test]
async fn a_sign_in_lasts_as_long_as_the_configuration_says() {
    for hours in [12, 720] {
        let set = |config: &mut Config| config.session.sign_in_hours = hours;
        let server = Server::start_with(set).await;
        let signed_in = server.post("", "/api/v1/session", json!({ "token": ADMIN })).await;
        let ends = server.state.clock.now().saturating_add_ms(i64::from(hours) * 3_600_000);
        assert_eq!(signed_in.body["expires_at"], json!(ends));
        let header = signed_in.header("set-cookie");
        let max_age = format!("Max-Age={}", hours * 3_600);
        assert!(header.split("; ").any(|part| part == max_age), "{header}");
        server.stop().await;
    }
}

#[test]
fn a_sign_in_that_ends_at_once_or_never_is_no_configuration() {
    let hours = |hours: &str| Config::load(None, [], &[("session.sign_in_hours".into(), hours.into())]);
    for refused in ["0", "8761"] {
        let said = hours(refused).expect_err("out of bounds").to_string();
        assert_eq!(said, "session.sign_in_hours: must be 1 to 8760");
    }
    for taken in ["1", "8760"] {
        assert_eq!(hours(taken).expect("in bounds").session.sign_in_hours.to_string(), taken);
    }
}

#[actix_web::test]
async fn a_page_of_another_origin_changes_nothing_with_the_cookie() {
    let server = Server::start().await;
    let signed_in = server.post("", "/api/v1/session", json!({ "token": ADMIN })).await;
    let cookie = cookie(&signed_in);
    let own = server.url.clone();
    let path = "/api/v1/login-codes";
    for (origin, status) in [
        (None, StatusCode::CREATED),
        (Some(own.as_str()), StatusCode::CREATED),
        (Some("http://evil.example"), StatusCode::FORBIDDEN),
        (Some("null"), StatusCode::FORBIDDEN),
    ] {
        let mut headers = vec![("Cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        assert_eq!(server.send(Method::POST, path, &headers, "").await.status, status, "{origin:?}");
        let read = server.send(Method::GET, "/api/v1/session", &headers, "").await;
        assert_eq!(read.status, StatusCode::OK, "{origin:?}");
    }
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("Authorization", bearer.as_str()), ("Origin", "http://evil.example")];
    // A page does not have the token, so whoever sends it may come from anywhere.
    assert_eq!(server.send(Method::POST, path, &headers, "").await.status, StatusCode::CREATED);
    server.stop().await;
}

#[actix_web::test]
async fn the_first_start_makes_an_admin_token_and_a_later_one_keeps_it() {
    let server = Server::start().await;
    let dir = server.with_store(|store| store.dir.path().to_path_buf());
    let (readers, writer, clock) = (&server.state.readers, &server.state.writer, &server.state.clock);
    let path = ensure_admin_token(&dir, readers, writer, clock).await.expect("a token");
    assert_eq!(path, dir.join(ADMIN_TOKEN_FILE));
    let first = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(server.get(first.trim(), "/api/v1/system").await.status, StatusCode::OK);
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    ensure_admin_token(&dir, readers, writer, clock).await.expect("a token");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), first);
    std::fs::write(&path, "wpt_unknown").expect("a file");
    ensure_admin_token(&dir, readers, writer, clock).await.expect("a token");
    let third = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(server.get(third.trim(), "/api/v1/system").await.status, StatusCode::OK);

    let code = create_login_code(writer, clock, None).await.expect("a code");
    let signed_in = server.post("", "/api/v1/session", json!({ "code": code.code })).await;
    assert_eq!(signed_in.status, StatusCode::OK);
    server.stop().await;
}

#[actix_web::test]
async fn the_command_line_finds_the_token_and_says_what_to_do_without() {
    let server = Server::start().await;
    let dir = server.with_store(|store| store.dir.path().to_path_buf());
    let args = ServerArgs { url: Some(server.url.clone()), token: None, data_dir: Some(dir.clone()) };
    let none = |_: &str| None;
    let link = LoginLinkArgs { server: args.clone() };
    let missing = login_link::run(&link, none).await.expect_err("no token").to_string();
    assert!(missing.contains("--data-dir"), "{missing}");
    std::fs::write(dir.join(ADMIN_TOKEN_FILE), format!("{ADMIN}\n")).expect("a file");
    let printed = login_link::run(&link, none).await.expect("a link");
    assert!(printed.starts_with(&format!("{}/#code=wpt_", server.url)), "{printed}");

    let from_env = |name: &str| (name == "WATCHPOST_TOKEN").then(|| "wpt_wrong".to_owned());
    let refused = login_link::run(&link, from_env).await.expect_err("a wrong token").to_string();
    assert!(refused.contains("--token"), "{refused}");
    let create = TokenCommand::Create { name: "bob".into(), customer: None, server: args.clone() };
    let made = token::run(&create, none).await.expect("a token");
    assert_eq!(server.get(&made, "/api/v1/session").await.body["name"], "bob");
    let listed = token::run(&TokenCommand::List { server: args.clone() }, none).await.expect("a list");
    assert!(listed.contains("bob  all customers  valid"), "{listed}");
    let away = ServerArgs { url: Some("http://127.0.0.1:1".into()), ..args };
    let away = login_link::run(&LoginLinkArgs { server: away }, none).await.expect_err("nobody").to_string();
    assert!(away.contains("watchpost serve"), "{away}");
    server.stop().await;
}

#[test]
fn the_variables_of_the_client_are_no_configuration() {
    let variable = |name: &str| [(name.to_owned(), "x".to_owned())];
    for name in ["WATCHPOST_TOKEN", "WATCHPOST_URL"] {
        assert!(Config::load(None, variable(name), &[]).is_ok(), "{name}");
    }
    assert!(Config::load(None, variable("WATCHPOST_TOKENS"), &[]).is_err());
}
