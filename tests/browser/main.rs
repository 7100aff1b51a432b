//! The operators' screen in a real browser: headless Chromium, driven over its DevTools protocol.
//!
//! Every test ends with a look at what the browser had to complain about: errors on the console,
//! violations of the content security policy, requests to any other host. There must be none.

mod accessible;
mod alerts;
mod cdp;
mod drafts;
mod extremes;
mod hostile;
mod in_front;
mod line;
mod live;
mod operators;
mod outage;
mod page;
mod pages;
mod places;
mod scene;
mod signing_in;
mod sound;
mod stale;
mod storm;
mod vitals;
mod weight;
