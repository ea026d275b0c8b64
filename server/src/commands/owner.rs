//! Commands beside a server ask it over HTTP, with the key that it offers to whoever can read the home. It knows no routes.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::Refused;
use crate::home::{Home, Owner};

/// How long an answer may take: a publication waits until everything before it is rated.
const PATIENCE: Duration = Duration::from_secs(300);

/// Sends to the process that owns the home.
#[derive(Clone)]
pub struct OwnerClient {
    agent: ureq::Agent,
    base: String,
    authorization: String,
}

/// How the owner is asked.
pub enum Method {
    /// To make something.
    Post(Value),
    /// To end something.
    Delete,
}

impl OwnerClient {
    /// Of the process that owns the home and listens, if there is one.
    pub fn of(home: &Home) -> anyhow::Result<Option<Self>> {
        let Some(Owner { listen: Some(listen), .. }) = home.owner() else { return Ok(None) };
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        Ok(Some(Self { agent, base: format!("http://{listen}"), authorization: format!("Bearer {}", home.local_key()?) }))
    }

    /// POSTs a body; status and text of the answer.
    pub async fn post(&self, path: &str, content_type: &'static str, body: Vec<u8>) -> anyhow::Result<(u16, String)> {
        let (owner, url) = (self.clone(), format!("{}{path}", self.base));
        let request = move || -> anyhow::Result<(u16, String)> {
            let request = owner.agent.post(&url).header("authorization", &owner.authorization).header("content-type", content_type);
            read(request.send(&body).with_context(|| format!("could not ask {url}"))?)
        };
        tokio::task::spawn_blocking(request).await?
    }

    /// The JSON that the owner answers; what it refuses is refused with its words.
    pub async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let (owner, url) = (self.clone(), format!("{}{path}", self.base));
        let asked = || format!("could not ask {}{path}", self.base);
        let (status, text) = match method {
            Method::Post(body) => self.post(path, "application/json", serde_json::to_vec(&body)?).await?,
            Method::Delete => {
                let request = move || read(owner.agent.delete(&url).header("authorization", &owner.authorization).call()?);
                tokio::task::spawn_blocking(request).await?.with_context(asked)?
            }
        };
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if !(200..300).contains(&status) {
            let detail = answer.get("detail").and_then(Value::as_str).unwrap_or(&text);
            return Err(Refused(detail.to_owned()).into());
        }
        Ok(answer)
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<(u16, String)> {
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}
