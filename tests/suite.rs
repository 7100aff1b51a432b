mod architecture;
mod faults;
mod pipeline;
mod rest;
mod session;
mod wire;

use testkit as support;
