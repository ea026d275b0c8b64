//! The evidence crate from outside: the fold on both engines, the frozen vectors, bundles.

#[cfg(test)]
#[path = "evidence/bundle.rs"]
mod bundle;
#[cfg(test)]
#[path = "evidence/bundle_invoice.rs"]
mod bundle_invoice;
#[cfg(test)]
#[path = "evidence/bundle_oracle.rs"]
mod bundle_oracle;
#[cfg(test)]
#[path = "evidence/bundle_world.rs"]
mod bundle_world;
#[cfg(test)]
#[path = "evidence/fold.rs"]
mod fold;
#[cfg(test)]
#[path = "evidence/vectors.rs"]
mod vectors;
