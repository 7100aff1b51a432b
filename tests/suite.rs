mod rest;
mod session;
mod wire;
