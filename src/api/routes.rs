//! Every route of this API, once: registration, metrics and the description all go by this table.

use actix_web::{HttpRequest, HttpResponse, Route, web};

use super::error::Problem;
use super::{
    alerts, device_history, devices, events, import, overview, post_events, quarantine, rules, sessions,
    system, tokens,
};

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path;)+) => {
        /// Method in lower case and path pattern.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];

        fn handlers() -> Vec<(&'static str, Route)> {
            vec![$(($path, web::$method().to($handler))),+]
        }
    };
}

routes! {
    get "/api/v1/overview" => overview::get;
    get "/api/v1/events" => events::list;
    post "/api/v1/events" => post_events::post;
    get "/api/v1/alerts" => alerts::list;
    get "/api/v1/alerts/{alert_id}" => alerts::get;
    post "/api/v1/alerts/{alert_id}/acknowledge" => alerts::acknowledge;
    post "/api/v1/alerts/{alert_id}/comment" => alerts::comment;
    post "/api/v1/alerts/{alert_id}/resolve" => alerts::resolve;
    get "/api/v1/rules" => rules::list;
    post "/api/v1/rules" => rules::create;
    get "/api/v1/rules/{rule_id}" => rules::get;
    put "/api/v1/rules/{rule_id}" => rules::replace;
    delete "/api/v1/rules/{rule_id}" => rules::delete;
    get "/api/v1/devices" => devices::list;
    get "/api/v1/devices/{device_sn}" => devices::get;
    get "/api/v1/devices/{device_sn}/vitals" => device_history::vitals;
    get "/api/v1/devices/{device_sn}/track" => device_history::track;
    get "/api/v1/devices/{device_sn}/binding" => devices::binding;
    put "/api/v1/devices/{device_sn}/binding" => devices::bind;
    delete "/api/v1/devices/{device_sn}/binding" => devices::unbind;
    post "/api/v1/bindings/import" => import::import;
    get "/api/v1/quarantine" => quarantine::list;
    get "/api/v1/quarantine/{quarantine_id}" => quarantine::get;
    delete "/api/v1/quarantine/{quarantine_id}" => quarantine::delete;
    get "/api/v1/quarantine/{quarantine_id}/body" => quarantine::body;
    post "/api/v1/quarantine/{quarantine_id}/retry" => quarantine::retry;
    get "/api/v1/session" => sessions::whoami;
    post "/api/v1/session" => sessions::sign_in;
    delete "/api/v1/session" => sessions::sign_out;
    post "/api/v1/login-codes" => sessions::create_code;
    get "/api/v1/tokens" => tokens::list;
    post "/api/v1/tokens" => tokens::create;
    delete "/api/v1/tokens/{token_id}" => tokens::revoke;
    get "/api/v1/system" => system::system;
    get "/api/v1/openapi.json" => system::openapi;
    get "/healthz" => system::healthz;
    get "/readyz" => system::readyz;
    get "/metrics" => system::metrics;
    get "/health" => system::health;
}

/// The description of the API, kept by hand; a test compares it with [`ROUTES`].
pub const OPENAPI: &str = include_str!("openapi.json");

/// Registers everything here. What else lives under `/api` (the stream) must be registered
/// before, since the last service here answers 404 for the rest.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(
            web::QueryConfig::default()
                .error_handler(|err, _| Problem::invalid(format!("the query: {err}")).into()),
        )
        .app_data(
            web::PathConfig::default()
                .error_handler(|err, _| Problem::invalid(format!("the path: {err}")).into()),
        );
    let mut handlers = handlers();
    while let Some((path, _)) = handlers.first() {
        let path = *path;
        let mut resource =
            web::resource(path).default_service(web::to(move |request: HttpRequest| async move {
                method_not_allowed(&request, path)
            }));
        for (_, route) in handlers.extract_if(.., |(other, _)| *other == path) {
            resource = resource.route(route);
        }
        config.service(resource);
    }
    config.service(web::scope("/api").default_service(web::to(unknown)));
}

fn method_not_allowed(request: &HttpRequest, path: &str) -> Result<HttpResponse, Problem> {
    let allowed = ROUTES.iter().filter(|(_, other)| *other == path).map(|(method, _)| method.to_uppercase());
    Err(Problem::method_not_allowed(request.method().as_str(), allowed.collect::<Vec<_>>().join(", ")))
}

async fn unknown() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found("this route"))
}
