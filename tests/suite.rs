mod wire;
mod rest;
