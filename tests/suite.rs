mod architecture;
mod demo;
mod faults;
mod pipeline;
mod rest;
mod session;
mod wire;

use testkit as support;
