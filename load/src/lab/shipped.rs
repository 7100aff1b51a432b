//! The scenarios that come with the lab.

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// Name and text of the scenarios that come with the lab.
        pub const SHIPPED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}
shipped![
    "steady",
    "fleet",
    "ceiling",
    "storm",
    "burst",
    "retry-herd",
    "reconnect",
    "overload",
    "stalled",
    "stalled-long",
    "dirty",
    "soak",
];
