//! The page of the safety staff, embedded in the binary. It loads nothing from elsewhere, and puts
//! what watches sent into the document only as text.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

const INDEX: &str = include_str!("index.html");
const SCRIPT: &str = include_str!("app.js");
const STREAM_CLIENT: &str = include_str!("stream-client.js");
const STYLE: &str = include_str!("style.css");

/// `connect-src 'self'` covers the stream too, which has the page's own host.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn configure(cfg: &mut web::ServiceConfig) {
    for (path, content_type, body) in [
        ("/", "text/html; charset=utf-8", INDEX),
        ("/app.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/stream-client.js", "text/javascript; charset=utf-8", STREAM_CLIENT),
        ("/style.css", "text/css; charset=utf-8", STYLE),
    ] {
        cfg.route(path, web::get().to(move || async move { asset(content_type, body) }));
    }
}

fn asset(content_type: &'static str, body: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        // The page and its script change together with the binary.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(body)
}
