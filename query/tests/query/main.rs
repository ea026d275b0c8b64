//! Tests of the query engine through its public interface: golden answers, exactness, refusals, isolation, limits, formats.

#[cfg(test)]
mod exactness;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod world;
