//! Who may do what: organizations, projects, principals, API keys, roles, enrolled sources, and the one decision [`authorize`].
//! Whatever a person or program can reach takes a [`Permit`], and only `authorize` mints one. It knows no HTTP and reads no clock.
//!
//! ```ignore
//! let principal = platform_iam::authenticate(&mut tx, &pepper, presented, now).await?; // 401
//! let permit = platform_iam::authorize(&principal, Action::KeyCreate, Target::Organization(acme))?; // 403 or 404
//! let created = platform_iam::key_create(&mut tx, &permit, &wanted, random, &pepper, now).await?; // and its audit record
//! ```

pub mod access;
pub mod key;
pub mod matrix;
pub mod principal;
pub mod role;
pub mod store;

pub use access::{Denied, Permit, Target, authorize};
pub use key::{KeyId, KeyText, Malformed, Pepper};
pub use matrix::{Reach, reach};
pub use platform_audit::Action;
pub use principal::{Principal, PrincipalName, Reporting, Reports};
pub use role::Role;
pub use store::{
    IamError, Key, KeyMade, KeyState, NewKey, Organization, Project, Source, Unknown, authenticate, bootstrap, key_create, key_revoke,
    keys, organization_add, organizations, project_add, projects, source_enroll, sources, verify,
};
