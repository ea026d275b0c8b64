//! Whole-workspace tests: the architecture, and the built binary from outside. The binary comes in `TALLY_BIN` (`cargo xtask test` sets it).

#[path = "whole/architecture.rs"]
mod architecture;
#[path = "whole/crash.rs"]
mod crash;
#[path = "whole/damage.rs"]
mod damage;
#[path = "whole/hostile.rs"]
mod hostile;
#[path = "whole/path.rs"]
mod path;
#[path = "whole/tally.rs"]
mod tally;
#[path = "whole/traces.rs"]
mod traces;
