//! Whole-workspace tests: the architecture, and the built binary from outside. The binary comes in `TALLY_BIN` (`cargo xtask test` sets it).

#[cfg(test)]
#[path = "whole/access.rs"]
mod access;
#[cfg(test)]
#[path = "whole/api.rs"]
mod api;
#[cfg(test)]
#[path = "whole/architecture.rs"]
mod architecture;
#[cfg(test)]
#[path = "whole/bundle.rs"]
mod bundle;
#[cfg(test)]
#[path = "whole/close.rs"]
mod close;
#[cfg(test)]
#[path = "whole/compact.rs"]
mod compact;
#[cfg(test)]
#[path = "whole/contracts.rs"]
mod contracts;
#[cfg(test)]
#[path = "whole/crash.rs"]
mod crash;
#[cfg(test)]
#[path = "whole/cuts.rs"]
mod cuts;
#[cfg(test)]
#[path = "whole/damage.rs"]
mod damage;
#[cfg(test)]
#[path = "whole/documents.rs"]
mod documents;
#[cfg(test)]
#[path = "whole/explain.rs"]
mod explain;
#[cfg(test)]
#[path = "whole/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "whole/isolation.rs"]
mod isolation;
#[cfg(test)]
#[path = "whole/levels.rs"]
mod levels;
#[cfg(test)]
#[path = "whole/months.rs"]
mod months;
#[cfg(test)]
#[path = "whole/path.rs"]
mod path;
#[cfg(test)]
#[path = "whole/provers.rs"]
mod provers;
#[cfg(test)]
#[path = "whole/recurring.rs"]
mod recurring;
#[cfg(test)]
#[path = "whole/reference.rs"]
mod reference;
#[cfg(test)]
#[path = "whole/rerate.rs"]
mod rerate;
#[cfg(test)]
#[path = "whole/reread.rs"]
mod reread;
#[cfg(test)]
#[path = "whole/review.rs"]
mod review;
#[cfg(test)]
#[path = "whole/tally.rs"]
mod tally;
#[cfg(test)]
#[path = "whole/terms.rs"]
mod terms;
#[cfg(test)]
#[path = "whole/traces.rs"]
mod traces;
#[cfg(test)]
#[path = "whole/what_if.rs"]
mod what_if;
#[cfg(test)]
#[path = "whole/zones.rs"]
mod zones;
