//! The files of the page: constants of the binary, each packed once when it is first asked for.

use std::io::Write;
use std::sync::{LazyLock, OnceLock};

use actix_web::web::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::domain::identity::sha256;

pub const INDEX: &str = include_str!("index.html");

/// A file of the page.
pub struct Asset {
    /// Below `/assets/{version}/`.
    pub name: &'static str,
    pub content_type: &'static str,
    pub body: &'static [u8],
    packed: OnceLock<Bytes>,
}

impl Asset {
    /// The body in gzip.
    pub fn packed(&self) -> Bytes {
        let pack = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(self.body).expect("a vector takes everything");
            encoder.finish().expect("a vector takes everything").into()
        };
        self.packed.get_or_init(pack).clone()
    }
}

macro_rules! assets {
    ($($name:literal)+) => {
        static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| vec![$(Asset {
            name: $name,
            content_type: content_type($name),
            body: include_bytes!($name),
            packed: OnceLock::new(),
        }),+]);
    };
}

assets! {
    "css/alerts.css"
    "css/base.css"
    "css/icon.svg"
    "css/pages.css"
    "css/popup.css"
    "css/shell.css"
    "js/actions.js"
    "js/alert-store.js"
    "js/announce.js"
    "js/api.js"
    "js/app.js"
    "js/clock.js"
    "js/connection.js"
    "js/drafts.js"
    "js/filter.js"
    "js/format.js"
    "js/i18n.js"
    "js/keys.js"
    "js/lib.js"
    "js/prefs.js"
    "js/router.js"
    "js/session.js"
    "js/shown.js"
    "js/sound.js"
    "stream-client.js"
    "js/text-en.js"
    "js/text-zh.js"
    "js/use-loaded.js"
    "js/version.js"
    "js/view-alert-detail.js"
    "js/view-alert-row.js"
    "js/view-alerts.js"
    "js/view-away.js"
    "js/view-chart.js"
    "js/view-device.js"
    "js/view-devices.js"
    "js/view-help.js"
    "js/view-overview.js"
    "js/view-parts.js"
    "js/view-popup.js"
    "js/view-shell.js"
    "js/view-sign-in.js"
    "js/view-system.js"
    "js/view-timeline.js"
    "js/view-toasts.js"
    "js/view-track.js"
    "js/view-vitals-table.js"
    "vendor/hooks.js"
    "vendor/htm.js"
    "vendor/leaflet.css"
    "vendor/leaflet.js"
    "vendor/preact.js"
    "vendor/signals-core.js"
    "vendor/signals.js"
    "vendor/uplot.css"
    "vendor/uplot.js"
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// 16 characters that change when any file does.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let mut all = INDEX.as_bytes().to_vec();
        ASSETS.iter().for_each(|asset| all.extend_from_slice(asset.body));
        sha256(&all)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    });
    &VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_packed_they_are_light() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard"));
        let mut names = Vec::new();
        for folder in ["js", "css", "vendor", "."] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if [".js", ".css", ".svg"].iter().any(|ending| name.ends_with(ending)) {
                    names.push(format!("{folder}/{name}").trim_start_matches("./").to_owned());
                }
            }
        }
        let missing: Vec<&String> = names.iter().filter(|name| find(name).is_none()).collect();
        assert!(names.len() > 10 && missing.is_empty(), "not in the list of assets: {missing:?}");
        let total: usize = ASSETS.iter().map(|asset| asset.packed().len()).sum();
        println!("figure: weight of the page, gzip, bytes: {total}");
        assert!(total < 250 * 1024, "{total} bytes");
    }
}
