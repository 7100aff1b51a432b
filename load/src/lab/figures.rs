//! The figures of a result by name, for objectives, comparisons and tables.

use serde_json::Value;

use super::slo::{FIGURES, OF_A_PHASE};

/// A figure of a phase, or of the run. `None` if the result has none.
pub fn figure(result: &Value, phase: Option<&str>, name: &str) -> Option<f64> {
    let part = match phase {
        None => &result["total"],
        Some(wanted) => {
            result["phases"].as_array()?.iter().find(|phase| phase["name"].as_str() == Some(wanted))?
        }
    };
    let summary = |of: &str, column: &str| {
        let summary = &part[of];
        summary[column].as_f64().filter(|_| summary["count"].as_u64() > Some(0))
    };
    match name {
        "requests_per_s" => part["requests_per_s"].as_f64(),
        "success_percent" => part["success_percent"].as_f64(),
        "refused_p99_ms" => summary("refused", "p99_ms"),
        "server_cpu_percent" => result["cpu"]["server_percent"].as_f64(),
        "generator_cpu_percent" => result["cpu"]["generator_percent"].as_f64(),
        "server_rss_peak_mib" => result["memory"]["server_rss_peak_mib"].as_f64(),
        "server_rss_end_mib" => result["memory"]["server_rss_end_mib"].as_f64(),
        "server_rss_slope_mib_per_h" => result["memory"]["server_rss_slope_mib_per_h"].as_f64(),
        "send_lag_p99_ms" => result["send_lag"]["p99_ms"].as_f64(),
        "unsent" => result["unsent"].as_f64(),
        "replayed_s" => result["replayed_s"].as_f64(),
        "server_rss_growth_mib" => part["server_rss_growth_mib"].as_f64(),
        _ => match (name.strip_prefix("screen_"), name.strip_prefix("all_screens_")) {
            (Some(column), _) => summary("screen", column),
            (None, Some(column)) => summary("all_screens", column),
            (None, None) => summary("latency", name),
        },
    }
}

/// All figures of a phase or of the run that there are, in a fixed order.
pub fn figures(result: &Value, phase: Option<&str>) -> Vec<(&'static str, f64)> {
    let known = if phase.is_some() { &FIGURES[..OF_A_PHASE] } else { &FIGURES[..] };
    known.iter().filter_map(|(name, _)| Some((*name, figure(result, phase, name)?))).collect()
}

/// Names of the phases that count.
pub fn phases(result: &Value) -> Vec<&str> {
    let phases = result["phases"].as_array().into_iter().flatten();
    phases.filter(|phase| phase["warm_up"] != true).filter_map(|phase| phase["name"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_found_in_run_and_phase_and_absent_ones_are_none() {
        let result = json!({
            "total": { "latency": { "count": 3, "p99_ms": 4.5 }, "screen": { "count": 0, "p99_ms": 0.0 } },
            "phases": [{ "name": "storm", "warm_up": false, "screen": { "count": 1, "p99_ms": 9.0 } }],
            "unsent": 2,
        });
        assert_eq!(figure(&result, None, "p99_ms"), Some(4.5));
        assert_eq!(figure(&result, None, "screen_p99_ms"), None);
        assert_eq!(figure(&result, Some("storm"), "screen_p99_ms"), Some(9.0));
        assert_eq!(figure(&result, Some("calm"), "screen_p99_ms"), None);
        assert_eq!(figures(&result, None), [("p99_ms", 4.5), ("unsent", 2.0)]);
        assert_eq!(phases(&result), ["storm"]);
    }
}
