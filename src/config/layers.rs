//! The layers of the configuration, put together and checked.

use std::path::Path;

use super::{Config, ConfigError, ENV_PREFIX};

/// After the prefix: what the commands that speak to a running server read. Not configuration.
const ENV_OF_THE_CLIENT: [&str; 2] = ["TOKEN", "URL"];

impl Config {
    /// Puts the layers together and checks the result. `overrides` are `section.key` and value, as
    /// from the command line; `env` is usually `std::env::vars()`.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let template = Config::default().to_table();
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.into(), source })?;
                let unreadable =
                    |err| ConfigError::Parse { path: path.into(), message: one_line(&text, &err) };
                // Parsed into the struct first: only that error knows where in the file it is.
                toml::from_str::<Config>(&text).map_err(unreadable)?;
                toml::from_str(&text).map_err(unreadable)?
            }
        };
        for (name, value) in env {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            if ENV_OF_THE_CLIENT.contains(&rest) {
                continue;
            }
            let rest = rest.to_ascii_lowercase();
            let (section, key) = split_env(&template, &rest).ok_or_else(|| ConfigError::Environment {
                name: name.clone(),
                message: "no such key".into(),
            })?;
            overlay(&template, &mut table, section, key, &value)
                .map_err(|message| ConfigError::Environment { name: name.clone(), message })?;
        }
        for (path, value) in overrides {
            let (section, key) = path
                .split_once('.')
                .ok_or_else(|| ConfigError::Layer(format!("{path}: write it as section.key=value")))?;
            overlay(&template, &mut table, section, key, value)
                .map_err(|message| ConfigError::Layer(format!("{path}: {message}")))?;
        }
        let config: Config = table
            .try_into()
            .map_err(|err: toml::de::Error| ConfigError::Layer(err.to_string().trim().replace('\n', " ")))?;
        config.validate()?;
        Ok(config)
    }

    fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a configuration is a table of tables of plain values")
    }

    /// TOML of the effective configuration, secrets masked.
    pub fn to_masked_toml(&self) -> String {
        let mut shown = self.clone();
        if let Some((scheme, rest)) = shown.storage.database_url.split_once("://")
            && let Some((credentials, host)) = rest.rsplit_once('@')
        {
            let user = credentials.split(':').next().unwrap_or_default();
            shown.storage.database_url = format!("{scheme}://{user}:***@{host}");
        }
        toml::to_string_pretty(&shown).expect("a configuration is a table of tables of plain values")
    }

    pub fn time_zone(&self) -> Result<chrono_tz::Tz, ConfigError> {
        self.watch.time_zone.parse().map_err(|_| ConfigError::Invalid {
            key: "watch.time_zone",
            message: format!("{:?} is not an IANA time zone such as Asia/Shanghai", self.watch.time_zone),
        })
    }

    /// Checks what types cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |key, message: &str| Err(ConfigError::Invalid { key, message: message.into() });
        self.time_zone()?;
        self.dashboard.validate()?;
        if self.watch.records_max == 0 || self.watch.records_max > 10_000 {
            return fail("watch.records_max", "must be 1 to 10000");
        }
        if !(4..=100).contains(&self.watch.depth_max) {
            return fail("watch.depth_max", "must be 4 to 100");
        }
        let intervals = [
            ("watch.upload_health_interval_s", self.watch.upload_health_interval_s),
            ("watch.upload_device_interval_s", self.watch.upload_device_interval_s),
            ("watch.fetch_message_interval_s", self.watch.fetch_message_interval_s),
            ("watch.fetch_config_interval_s", self.watch.fetch_config_interval_s),
        ];
        for (key, interval_s) in intervals {
            if interval_s < 5 {
                return fail(key, "must be at least 5: a watch never fires a shorter interval");
            }
        }
        if self.watch.customer_name.is_empty() {
            return fail("watch.customer_name", "must not be empty: a watch rejects its settings");
        }
        let admission = &self.admission;
        if !(admission.reserve_above_vitals_kib >= admission.reserve_above_events_kib
            && admission.reserve_above_events_kib >= admission.reserve_above_unbound_kib
            && admission.capacity_kib > admission.reserve_above_vitals_kib)
        {
            return fail("admission", "needs capacity > above_vitals >= above_events >= above_unbound");
        }
        if u64::from(admission.reserve_above_unbound_kib) * 1024 < self.server.body_small_bytes as u64 {
            return fail("admission.reserve_above_unbound_kib", "must hold at least one small body");
        }
        if self.server.body_reserve_bytes >= self.server.body_budget_bytes
            || self.server.body_bytes_max > self.server.body_budget_bytes - self.server.body_reserve_bytes
        {
            return fail(
                "server.body_budget_bytes",
                "must hold the reserve and one body of the largest size",
            );
        }
        if !(1..=8_760).contains(&self.session.sign_in_hours) {
            return fail("session.sign_in_hours", "must be 1 to 8760");
        }
        let positive = [
            ("admission.wait_max_ms", self.admission.wait_max_ms as usize),
            ("storage.readers", self.storage.readers as usize),
            ("storage.checkpoint_pages", self.storage.checkpoint_pages as usize),
            ("storage.postgres_commit_limit_ms", self.storage.postgres_commit_limit_ms as usize),
            ("storage.mirror_hours", self.storage.mirror_hours as usize),
            ("storage.checkpoint_interval_ms", self.storage.checkpoint_interval_ms as usize),
            ("writer.batch_rows", self.writer.batch_rows),
            ("writer.batch_bytes", self.writer.batch_bytes),
            ("writer.commands_max", self.writer.commands_max),
            ("device.turn_reports_max", self.device.turn_reports_max),
            ("device.states_max", self.device.states_max),
            ("device.bindings_cached_max", self.device.bindings_cached_max),
            ("session.ring_changes", self.session.ring_changes),
            ("session.snapshot_alerts_max", self.session.snapshot_alerts_max),
            ("session.heartbeat_ms", self.session.heartbeat_ms as usize),
            ("session.reconcile_ms", self.session.reconcile_ms as usize),
            ("quarantine.permits", self.quarantine.permits),
            ("quarantine.known_hashes_max", self.quarantine.known_hashes_max),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => fail(key, "must be at least 1"),
            None => Ok(()),
        }
    }
}

/// Where and what, without the excerpt of the file that the parser's own text has.
fn one_line(text: &str, err: &toml::de::Error) -> String {
    let message = err.message().replace('\n', " ");
    match err.span() {
        None => message,
        Some(span) => {
            let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
    }
}

fn split_env<'a>(template: &toml::Table, rest: &'a str) -> Option<(&'a str, &'a str)> {
    template.iter().find_map(|(section, keys)| {
        let key = rest.strip_prefix(section.as_str())?.strip_prefix('_')?;
        keys.as_table()?.contains_key(key).then(|| rest.split_at(section.len())).map(|(s, _)| (s, key))
    })
}

/// Puts a text value in, read as the type that the default has.
fn overlay(
    template: &toml::Table,
    table: &mut toml::Table,
    section: &str,
    key: &str,
    text: &str,
) -> Result<(), String> {
    let default = template
        .get(section)
        .and_then(|keys| keys.get(key))
        .ok_or_else(|| "no such key; `watchpost config` lists the keys".to_string())?;
    let value = match default {
        toml::Value::Integer(_) => {
            toml::Value::Integer(text.parse().map_err(|_| format!("{text:?} is not a whole number"))?)
        }
        toml::Value::Boolean(_) => {
            toml::Value::Boolean(text.parse().map_err(|_| format!("{text:?} is not true or false"))?)
        }
        _ => toml::Value::String(text.into()),
    };
    let keys = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    keys.as_table_mut().ok_or_else(|| format!("{section} is not a section"))?.insert(key.into(), value);
    Ok(())
}
