mod architecture;
mod faults;
mod pipeline;
mod rest;
mod session;
mod support;
mod wire;
