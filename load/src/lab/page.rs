//! A result as one HTML page that asks nobody for anything: data, plots and styles are in it.

use serde_json::{Value, json};

use super::compare::pairs;

const PAGE: &str = include_str!("../../page/page.html");
const STYLE: &str = include_str!("../../page/page.css");
const SCRIPT: &str = include_str!("../../page/page.js");
const PLOT_STYLE: &str = include_str!("../../page/uplot/uPlot.min.css");
const PLOT_SCRIPT: &str = include_str!("../../page/uplot/uPlot.iife.min.js");

/// `old`: an earlier result, for ratios.
pub fn page(result: &Value, old: Option<&Value>) -> String {
    let mut data = result.clone();
    if let Some(old) = old {
        let pairs = pairs(old, result, None).into_iter().map(|pair| {
            json!({
                "name": pair.name, "old": pair.old, "new": pair.new,
                "ratio": pair.ratio, "better": pair.better,
            })
        });
        data["compared"] = json!({
            "commit": old["commit"], "started_at": old["started_at"], "pairs": pairs.collect::<Vec<_>>(),
        });
    }
    // A script element ends at the first `</`, whatever it is inside of.
    let data = data.to_string().replace("</", "<\\/");
    let title = result["scenario"]["name"].as_str().unwrap_or("run");
    let title: String = title.chars().filter(|char| !matches!(char, '<' | '>' | '&')).collect();
    // The data last: what it says is not looked through for marks.
    PAGE.replace("/*PLOT_STYLE*/", PLOT_STYLE)
        .replace("/*STYLE*/", STYLE)
        .replace("/*PLOT_SCRIPT*/", PLOT_SCRIPT)
        .replace("/*SCRIPT*/", SCRIPT)
        .replace("TITLE", &title)
        .replace("/*DATA*/null", &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_carries_everything_and_asks_nobody() {
        let result = json!({ "scenario": { "name": "x</script>" }, "commit": "c" });
        let page = page(&result, None);
        assert!(page.contains(r#""commit":"c""#) && page.contains("uPlot"));
        // Where the licence of the plots says they come from.
        let asking = page.replace("https://github.com/leeoniya/uPlot", "");
        for outside in ["src=", "@import", "url(", "fetch(", "XMLHttpRequest", "<link", "https://", "http://"]
        {
            assert!(!asking.contains(outside), "the page has {outside}");
        }
        assert_eq!(page.matches("</script>").count(), 3, "the data ends a script");
        for mark in ["/*STYLE*/", "/*SCRIPT*/", "/*DATA*/", "/*PLOT", "TITLE"] {
            assert!(!page.contains(mark), "{mark} is left");
        }
    }
}
