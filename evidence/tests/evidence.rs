//! The evidence crate from outside: the fold on both engines, the frozen vectors.

#[cfg(test)]
#[path = "evidence/fold.rs"]
mod fold;
#[cfg(test)]
#[path = "evidence/vectors.rs"]
mod vectors;
