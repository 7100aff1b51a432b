//! What the server tells a watch at its start, read as strictly as the watch does.

use serde_json::Value;

/// A watch whose settings say nothing better looks for new ones this often.
const SETTINGS_INTERVAL_S: u64 = 600;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Uploads happen over HTTP only if this is `wifi`.
    pub upload_method: String,
    pub customer_id: String,
    pub org_id: String,
    pub user_id: String,
    /// Capacity of each ring; more than 100 means 100.
    pub cache_max_count: usize,
    /// Attempts for a batch of health records.
    pub upload_retry_count: u32,
    pub health_interval_s: u64,
    pub device_interval_s: u64,
    pub message_interval_s: u64,
    pub settings_interval_s: u64,
    pub health_path: String,
    pub device_path: String,
    pub event_path: String,
    /// `/receive` and `/send` are appended.
    pub message_path: String,
    pub authorization: Option<String>,
}

impl Default for Settings {
    /// What is built into the app, for a watch that never reached its server.
    fn default() -> Self {
        Self {
            upload_method: "wifi".into(),
            customer_id: "0".into(),
            org_id: String::new(),
            user_id: String::new(),
            cache_max_count: 100,
            upload_retry_count: 3,
            health_interval_s: 600,
            device_interval_s: 300,
            message_interval_s: 60,
            settings_interval_s: SETTINGS_INTERVAL_S,
            health_path: "/upload_health_data".into(),
            device_path: "/upload_device_info".into(),
            event_path: "/upload_common_event".into(),
            message_path: "/DeviceMessage".into(),
            authorization: None,
        }
    }
}

/// The settings cannot be used; the watch goes on with those it has. Names the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected(pub &'static str);

impl Settings {
    /// One key of a wrong type rejects the whole.
    pub fn parse(body: &[u8]) -> Result<Self, Rejected> {
        let value: Value = serde_json::from_slice(body).map_err(|_| Rejected("JSON"))?;
        let text = |key| value[key].as_str().map(str::to_owned).ok_or(Rejected(key));
        let number = |key| value[key].as_u64().ok_or(Rejected(key));
        // `getLong` takes a number or a text of one, and throws on null.
        let id = |key| match value.get(key) {
            None => Ok(String::new()),
            Some(Value::String(text)) if text.parse::<i64>().is_ok() => Ok(text.clone()),
            Some(Value::Number(number)) if number.is_i64() => Ok(number.to_string()),
            Some(_) => Err(Rejected(key)),
        };
        let flag = |key| match value.get(key) {
            None => Ok(()),
            Some(flag) => flag.as_u64().map(|_| ()).ok_or(Rejected(key)),
        };
        flag("is_support_license")?;
        flag("enable_resume")?;
        text("customer_name")?;
        number("license_key")?;
        number("upload_retry_interval")?;
        read_health_data(&value["health_data"])?;
        let mut settings = Self {
            upload_method: text("upload_method")?,
            customer_id: match value.get("customer_id") {
                None => "0".into(),
                Some(id) => id.as_str().ok_or(Rejected("customer_id"))?.to_owned(),
            },
            org_id: id("org_id")?,
            user_id: id("user_id")?,
            // Zero crashes the ring of a watch.
            cache_max_count: match number("cache_max_count")? {
                0 => return Err(Rejected("cache_max_count")),
                count => usize::try_from(count).unwrap_or(usize::MAX),
            },
            upload_retry_count: u32::try_from(number("upload_retry_count")?).unwrap_or(u32::MAX),
            ..Self::default()
        };
        settings.read_interfaces(&value["interface_data"])?;
        Ok(settings)
    }

    /// Values are `url;seconds;enabled;id;authorization`, and no part may be empty.
    fn read_interfaces(&mut self, value: &Value) -> Result<(), Rejected> {
        const KEY: &str = "interface_data";
        for (name, entry) in value.as_object().ok_or(Rejected(KEY))? {
            let parts: Vec<&str> = entry.as_str().ok_or(Rejected(KEY))?.split(';').collect();
            if parts.len() < 5 || parts.iter().any(|part| part.is_empty()) {
                return Err(Rejected(KEY));
            }
            let interval_s: u64 = parts[1].parse().map_err(|_| Rejected(KEY))?;
            let path = path_of(parts[0]).ok_or(Rejected(KEY))?.to_owned();
            match name.as_str() {
                "平台消息交互接口" => {
                    (self.message_path, self.message_interval_s) = (path, interval_s)
                }
                "事件上传接口" => self.event_path = path,
                "设备信息上传接口" => (self.device_path, self.device_interval_s) = (path, interval_s),
                "健康数据上传接口" => (self.health_path, self.health_interval_s) = (path, interval_s),
                "配置获取接口" if interval_s > 0 => self.settings_interval_s = interval_s,
                _ => {}
            }
            self.authorization = Some(parts[4].to_owned());
        }
        Ok(())
    }
}

/// Six parts per metric: `interval:enabled:realtime:high:low:count`.
fn read_health_data(value: &Value) -> Result<(), Rejected> {
    const KEY: &str = "health_data";
    for entry in value.as_object().ok_or(Rejected(KEY))?.values() {
        let parts: Vec<&str> = entry.as_str().ok_or(Rejected(KEY))?.split(':').collect();
        let whole = |at: usize| parts.get(at).is_some_and(|part| part.parse::<i64>().is_ok());
        let limit = |at: usize| parts.get(at).is_some_and(|part| part.parse::<f64>().is_ok());
        if ![0, 1, 2, 5].into_iter().all(whole) || ![3, 4].into_iter().all(limit) {
            return Err(Rejected(KEY));
        }
    }
    Ok(())
}

/// The simulated network has one server, so only the path of a URL counts.
fn path_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    rest.find('/').map(|at| &rest[at..])
}
