//! An earlier run beside this one.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::figures::figures;
use super::slo::{FIGURES, Limit, limit};

/// One figure of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub name: &'static str,
    pub old: f64,
    pub new: f64,
    /// New by old; `None` if the old one is 0.
    pub ratio: Option<f64>,
    /// Whether the change is for the better; `None` within a twentieth.
    pub better: Option<bool>,
}

pub fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let result: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        result["schema"].is_u64() && result["total"].is_object(),
        "{} is not the result of a run",
        path.display()
    );
    Ok(result)
}

/// The figures that both have, of the run or of one phase.
pub fn pairs(old: &Value, new: &Value, phase: Option<&str>) -> Vec<Pair> {
    const NO_CHANGE: f64 = 0.05;
    let before = figures(old, phase);
    let both = figures(new, phase).into_iter().filter_map(|(name, now)| {
        let was = before.iter().find(|(old_name, _)| *old_name == name)?.1;
        let ratio = (was != 0.0).then(|| now / was);
        let less = limit(name, FIGURES.len()) == Some(Limit::AtMost);
        let better = ratio.filter(|ratio| (ratio - 1.0).abs() > NO_CHANGE).map(|ratio| (ratio < 1.0) == less);
        Some(Pair { name, old: was, new: now, ratio, better })
    });
    both.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(p99: f64, rate: f64) -> Value {
        json!({ "schema": 1, "total": { "requests_per_s": rate, "latency": { "count": 1, "p99_ms": p99 } } })
    }

    #[test]
    fn ratios_say_which_way_is_better() {
        let pairs = pairs(&result(10.0, 500.0), &result(5.0, 250.0), None);
        let of = |name: &str| pairs.iter().find(|pair| pair.name == name).expect("a pair").clone();
        assert_eq!((of("p99_ms").ratio, of("p99_ms").better), (Some(0.5), Some(true)));
        assert_eq!((of("requests_per_s").ratio, of("requests_per_s").better), (Some(0.5), Some(false)));
        assert_eq!(super::pairs(&result(10.0, 0.0), &result(10.1, 5.0), None)[0].better, None);
        assert_eq!(super::pairs(&result(10.0, 0.0), &result(10.1, 5.0), None)[1].ratio, None);
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("old.json");
        std::fs::write(&path, "{\"rounds\":[]}").expect("a file");
        assert!(read(&path).is_err());
        std::fs::write(&path, result(1.0, 1.0).to_string()).expect("a file");
        assert!(read(&path).is_ok());
    }
}
