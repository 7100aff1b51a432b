//! Label sets. Each has a bounded number of values: none comes from what strangers send.

use prometheus_client::encoding::EncodeLabelSet;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    pub route: &'static str,
    pub code: u16,
}

/// One label: the kind of thing that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActorLabels {
    pub actor: String,
}

/// A transition of an alert, and how severe that alert is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChangeLabels {
    pub kind: &'static str,
    pub severity: &'static str,
}

/// State and severity of alerts that are not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OpenLabels {
    pub state: &'static str,
    pub severity: &'static str,
}
