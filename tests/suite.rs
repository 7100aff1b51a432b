mod rest;
mod wire;
