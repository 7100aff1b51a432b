//! Settings of the operators' screen.

use serde::{Deserialize, Serialize};

use super::ConfigError;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DashboardConfig {
    /// Where the browser gets map tiles, with `{z}`, `{x}` and `{y}`; empty: a map without tiles.
    /// Only its host is added to what the page may load from.
    pub tile_url: String,
}

impl DashboardConfig {
    /// Scheme, host and port of the tile server. `None` if there is none, or no host can be told.
    pub fn tile_origin(&self) -> Option<String> {
        let (scheme, rest) = self.tile_url.split_once("://")?;
        let host = rest.split('/').next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let known = matches!(scheme, "http" | "https") && !host.is_empty() && host.chars().all(plain);
        known.then(|| format!("{scheme}://{host}"))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let places = ["{z}", "{x}", "{y}"].iter().all(|place| self.tile_url.contains(place));
        if self.tile_url.is_empty() || (places && self.tile_origin().is_some()) {
            return Ok(());
        }
        Err(ConfigError::Invalid {
            key: "dashboard.tile_url",
            message: "write it as https://tiles.example/{z}/{x}/{y}.png".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tile_url: &str) -> DashboardConfig {
        DashboardConfig { tile_url: tile_url.into() }
    }

    #[test]
    fn a_tile_url_has_its_places_and_a_plain_host() {
        let good = of("https://tiles.example:8443/osm/{z}/{x}/{y}.png?key=a");
        assert!(good.validate().is_ok() && of("").validate().is_ok());
        assert_eq!(good.tile_origin().as_deref(), Some("https://tiles.example:8443"));
        for bad in [
            "https://tiles.example/",
            "ftp://a/{z}/{x}/{y}",
            "https://a; script-src *//{z}{x}{y}",
            "{z}{x}{y}",
        ] {
            assert!(of(bad).validate().is_err(), "{bad}");
        }
    }
}
