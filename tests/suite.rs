mod pipeline;
mod rest;
mod session;
mod support;
mod wire;
