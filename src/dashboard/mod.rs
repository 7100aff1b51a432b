//! The operators' screen, embedded in the binary. It loads nothing from elsewhere, needs no build
//! step, and puts what watches sent into the document only as text.

mod assets;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::config::DashboardConfig;

/// Scripts, styles and sockets come from this host alone. Styles that scripts set on elements are
/// allowed by CSP; style attributes in HTML are not, and there are none. `img-src` is last, for the
/// host of map tiles where there is one.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; img-src 'self'";

/// A year, seconds: the address of an asset changes with its content.
const KEEP: &str = "public, max-age=31536000, immutable";
/// Asked again each time, and answered 304 while nothing has changed.
const ASK_AGAIN: &str = "no-cache";

/// Registers the page at `/` and its files at `/assets/{version}/`. Needs no `app_data`; with a
/// `web::Data<DashboardConfig>` the map has tiles.
pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.route("/", web::get().to(index));
    cfg.route("/assets/{version}/{path:.*}", web::get().to(asset));
    // Where others find the client to copy.
    cfg.route("/stream-client.js", web::get().to(stream_client));
}

async fn index(request: HttpRequest) -> HttpResponse {
    let settings = request.app_data::<web::Data<DashboardConfig>>();
    let tile_url = settings.map_or("", |settings| settings.tile_url.as_str());
    // From a checked URL; what could end the attribute is not let through either way.
    let tile_url = tile_url.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let page = assets::INDEX.replace("{{version}}", assets::version()).replace("{{tile_url}}", &tile_url);
    let mut answer = HttpResponse::Ok();
    secure(&mut answer, &policy(settings.and_then(|settings| settings.tile_origin())));
    answer
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, ASK_AGAIN))
        .body(page)
}

async fn asset(request: HttpRequest, path: web::Path<(String, String)>) -> HttpResponse {
    let (version, name) = path.into_inner();
    file(request, &version, &name).await
}

async fn stream_client(request: HttpRequest) -> HttpResponse {
    file(request, "", "stream-client.js").await
}

async fn file(request: HttpRequest, version: &str, name: &str) -> HttpResponse {
    let Some(asset) = assets::find(name) else {
        return HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("no such file\n");
    };
    let mut answer = HttpResponse::Ok();
    secure(&mut answer, CONTENT_SECURITY_POLICY);
    // A page of another version of the server gets what there is, but does not keep it.
    let keep = if version == assets::version() { KEEP } else { ASK_AGAIN };
    answer
        .content_type(asset.content_type)
        .insert_header((header::CACHE_CONTROL, keep))
        .insert_header((header::VARY, "accept-encoding"));
    if accepts_gzip(&request) {
        answer.insert_header((header::CONTENT_ENCODING, "gzip")).body(asset.packed())
    } else {
        answer.body(asset.body)
    }
}

fn policy(tile_origin: Option<String>) -> String {
    match tile_origin {
        Some(origin) => format!("{CONTENT_SECURITY_POLICY} {origin}"),
        None => CONTENT_SECURITY_POLICY.to_owned(),
    }
}

fn secure(answer: &mut actix_web::HttpResponseBuilder, policy: &str) {
    let policy = HeaderValue::from_str(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    answer
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"));
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let header = request.headers().get(header::ACCEPT_ENCODING);
    let accepted = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|weight| weight == "q=0")
    })
}
