mod pipeline;
mod faults;
mod architecture;
mod rest;
mod session;
mod support;
mod wire;
