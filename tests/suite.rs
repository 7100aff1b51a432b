mod pipeline;
mod faults;
mod rest;
mod session;
mod support;
mod wire;
