mod architecture;
mod rest;
mod session;
mod support;
mod wire;
