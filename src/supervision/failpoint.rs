//! Fail points: named places where tests make the code panic, fail, wait or lose a message.
//!
//! Without the cargo feature `failpoints` they are nothing at all. With it a point does nothing until
//! it is configured; see the crate `fail` for the language (`panic`, `return`, `sleep(100)`,
//! `1*panic`). The names are those of the hand-over or place: `module::what`.

/// `fail_point!("name")` may panic or wait here. `fail_point!("name", |text| value)` may also return
/// `value` from the surrounding function.
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        ::fail::fail_point!($name)
    };
    ($name:literal, $return:expr) => {
        #[cfg(feature = "failpoints")]
        ::fail::fail_point!($name, $return)
    };
}
