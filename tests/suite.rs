mod rest;
mod wire;
mod session;
