//! What watches ask for: settings and messages.
//!
//! Watches check types, not meaning: one key of a wrong type and they reject the whole answer.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::state::ApiState;
use crate::domain::ids::DeviceSn;
use crate::domain::owner::Owner;
use crate::storage::owners;

pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.route("/fetch_health_data_config", web::get().to(settings))
        .route("/DeviceMessage/receive", web::get().to(receive_messages));
}

#[derive(Debug, Deserialize)]
struct DeviceQuery {
    #[serde(rename = "deviceSn", alias = "device_sn")]
    device_sn: Option<String>,
}

impl DeviceQuery {
    fn device(&self) -> Option<DeviceSn> {
        self.device_sn.as_deref().and_then(|text| DeviceSn::parse(text).ok())
    }
}

/// Who asks, which is a sign of life.
fn heard(query: &DeviceQuery, state: &ApiState) -> Option<DeviceSn> {
    let device = query.device()?;
    if let Some(guard) = &state.ring_guard {
        guard.heard(&device, state.clock.now());
    }
    Some(device)
}

/// The owner as stored; an unknown device has none. Storage trouble is no reason to leave a watch
/// without settings.
async fn owner_of(state: &ApiState, device: Option<DeviceSn>) -> Owner {
    let Some(device) = device else { return Owner::unbound() };
    let owner = state.readers.read_soon(move |conn| owners::owner(conn, &device)).await;
    owner.map(|(owner, _)| owner).unwrap_or_else(|err| {
        tracing::warn!("the owner of a watch could not be read for its settings: {err}");
        Owner::unbound()
    })
}

/// `GET /fetch_health_data_config`: usable for every device, known or not, because a watch that
/// gets anything but 200 here does not start its uploads at all.
async fn settings(
    request: HttpRequest,
    query: web::Query<DeviceQuery>,
    state: web::Data<ApiState>,
) -> HttpResponse {
    let device = heard(&query, &state);
    let owner = owner_of(&state, device).await;
    let (scheme, host) = {
        let connection = request.connection_info();
        (connection.scheme().to_string(), connection.host().to_string())
    };
    HttpResponse::Ok().json(settings_for(&state, &owner, &format!("{scheme}://{host}")))
}

/// Flat, with the types that the watch insists on: strings, integers, and no boolean or null.
fn settings_for(state: &ApiState, owner: &Owner, base: &str) -> Value {
    let watch = &state.config.watch;
    let mut settings = json!({
        "customer_name": watch.customer_name,
        "customer_id": owner.customer_id,
        "upload_method": "wifi",
        "enable_resume": 1,
        "upload_retry_count": 3,
        "cache_max_count": 100,
        "upload_retry_interval": 5,
        "is_support_license": 0,
        "license_key": 100_000,
        "health_data": {
            "heart_rate": "20:1:1:150.0:40.0:5",
            "blood_oxygen": "20:1:1:100.0:90.0:3",
            "temperature": "20:1:1:38.0:35.0:3",
            "stress": "1800:1:1:66.0:0.0:5",
            "step": "60:1:1:0.0:0.0:0",
            "distance": "60:1:1:0.0:0.0:0",
            "calorie": "60:1:1:0.0:0.0:0",
            "location": "60:1:1:0.0:0.0:0",
            "sleep": "1800:1:1:0.0:0.0:0",
            "ecg": "1800:1:1:0.0:0.0:0",
            "wear": "1800:1:1:-1:-1:-1",
            "work_out": "1800:1:1:-1:-1:-1",
            "exercise_daily": "1800:1:0:-1:-1:-1",
            "exercise_week": "1800:0:0:-1:-1:-1",
            "scientific_sleep": "1800:0:0:-1:-1:-1",
        },
    });
    let interface = |path: &str, interval_s: u32| {
        // Five parts that must not be empty, split at ';'. The last is what the watch sends as
        // `Authorization`: told to whoever asks, it could prove nothing.
        Value::from(format!("{base}{path};{interval_s};1;watchpost;none"))
    };
    let mut interfaces = Map::new();
    for (name, path, interval_s) in [
        ("平台消息交互接口", "/DeviceMessage", watch.fetch_message_interval_s),
        ("事件上传接口", "/upload_common_event", 5),
        ("设备信息上传接口", "/upload_device_info", watch.upload_device_interval_s),
        ("健康数据上传接口", "/upload_health_data", watch.upload_health_interval_s),
        ("配置获取接口", "/fetch_health_data_config", watch.fetch_config_interval_s),
    ] {
        interfaces.insert(name.into(), interface(path, interval_s));
    }
    settings["interface_data"] = interfaces.into();
    // Numeric or absent: null or a word is fatal to the watch.
    let numeric = |text: &str| text.parse::<i64>().is_ok();
    if let Some(org_id) = owner.org_id.as_ref().filter(|id| numeric(id.as_str())) {
        settings["org_id"] = org_id.as_str().into();
    }
    if let Some(person_id) = owner.person_id.as_ref().filter(|id| numeric(id.as_str())) {
        settings["user_id"] = person_id.as_str().into();
    }
    settings
}

/// `GET /DeviceMessage/receive`: no messages yet, in the union of the old and the new keys. A
/// missing key makes a watch drop the whole answer.
async fn receive_messages(query: web::Query<DeviceQuery>, state: web::Data<ApiState>) -> HttpResponse {
    let device = heard(&query, &state);
    let device_sn = device.as_ref().map(ToString::to_string).unwrap_or_default();
    let owner = owner_of(&state, device).await;
    HttpResponse::Ok().json(json!({
        "success": true,
        "status": "success",
        "data": {
            "totalMessages": 0,
            "personalMessagesCount": 0,
            "publicMessagesCount": 0,
            "departments": [],
            "messageTypeCount": {},
            "messageStatusCount": {},
            "departmentMessageCount": {},
            "uniqueMessageTypes": 0,
            "messages": [],
            "total_count": 0,
            "user_info": {
                "user_id": owner.person_id,
                "user_name": owner.person_name,
                "org_id": owner.org_id,
            },
            "device_sn": device_sn,
            "timestamp": state.clock.now(),
        },
    }))
}
