//! Who is asking over HTTP: a key becomes a [`Caller`], a caller's question a permit or a problem. What is refused is written down.
//! It decides nothing itself: `platform-iam` does. Nothing is remembered of a key between requests but how much it asked for.

mod denials;
mod meters;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use platform_audit::Chain;
use platform_iam::{Action, Denied, KeyText, Pepper, Permit, Principal, Target, Unknown};
use shared_db::Database;
use shared_types::{Digest, OrganizationId};

use crate::clock::now;
use crate::home::AccessSettings;
use crate::problem::Problem;
pub use denials::{Denials, Refusal};
use meters::Meters;

/// The one route that asks for no key.
const OPEN: &str = "/v1/health";

/// A permit of the OS user who runs this command; whatever is done with it is recorded as done by `local`.
pub fn local(action: Action) -> anyhow::Result<Permit> {
    Ok(platform_iam::authorize(&Principal::local(), action, Target::Deployment)?)
}

/// Recognises callers. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    books: Database,
    pepper: Pepper,
    /// The hash of the key that the OS user finds in the home.
    local: Option<Digest>,
    meters: Meters,
    denials: Denials,
}

impl Access {
    /// Over the books of an owned home.
    pub fn new(books: Database, pepper: Pepper, settings: &AccessSettings, denials: Denials) -> Self {
        Self { books, pepper, local: None, meters: Meters::new(settings), denials }
    }

    /// Also recognises this key, as the OS user.
    pub fn with_local(self, key: &KeyText) -> Self {
        Self { local: Some(self.pepper.hash(key)), ..self }
    }

    async fn principal(&self, presented: &str) -> Result<Principal, Unknown> {
        if let (Some(local), Ok(text)) = (&self.local, KeyText::parse(presented))
            && self.pepper.fits(&text, local)
        {
            return Ok(Principal::local());
        }
        let failed = |error: shared_db::DbError| Unknown::Store(error.into());
        let mut tx = self.books.read().await.map_err(failed)?;
        platform_iam::authenticate(&mut tx, &self.pepper, presented, now()).await
    }

    /// Who presents the key of a request; what it presents instead is written down.
    async fn recognise(&self, parts: &Parts, route: &str) -> Result<Principal, Problem> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            self.refuse_unknown("missing", route);
            return Err(unauthenticated("ACCESS-0001", "send `Authorization: Bearer tally_…`; `tally key create` makes a key".to_owned()));
        };
        let presented = value.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let Some((_, presented)) = presented else {
            self.refuse_unknown("malformed", route);
            return Err(unauthenticated("ACCESS-0002", "the header Authorization is not `Bearer` and a key".to_owned()));
        };
        self.principal(presented.trim()).await.map_err(|unknown| {
            let reason = match &unknown {
                Unknown::Store(source) => {
                    tracing::error!(error = %source, "a key could not be looked up");
                    return Problem::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "ACCESS-0006",
                        "The key could not be looked up; send the request again later.",
                        unknown.to_string(),
                    )
                    .retry_after(1);
                }
                Unknown::Malformed(_) => "malformed",
                Unknown::Unknown => "unknown",
                Unknown::Revoked { .. } => "revoked",
                Unknown::Expired { .. } => "expired",
            };
            self.refuse_unknown(reason, route);
            unauthenticated("ACCESS-0002", unknown.to_string())
        })
    }

    fn refuse_unknown(&self, reason: &'static str, route: &str) {
        self.denials.note(Refusal {
            chain: Chain::Deployment,
            principal: "unknown".to_owned(),
            role: None,
            key: None,
            action: Action::KeyPresent,
            reason,
            target: String::new(),
            route: route.to_owned(),
        });
    }
}

fn unauthenticated(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, "The request needs a key that is known.", detail)
}

/// Whoever sent the request. Handlers take it as an argument and ask it for permits; a handler that answers without having asked is a
/// defect, and its answer does not leave the server.
#[derive(Clone)]
pub struct Caller(Arc<Recognised>);

struct Recognised {
    principal: Principal,
    denials: Denials,
    route: String,
    asked: AtomicBool,
}

impl Caller {
    /// A permit to do this, or the problem to answer with: 403, or 404 where existence must not leak.
    pub fn authorize(&self, action: Action, target: Target) -> Result<Permit, Problem> {
        let caller = &*self.0;
        caller.asked.store(true, Ordering::Relaxed);
        let subject = subject(&target);
        platform_iam::authorize(&caller.principal, action, target).map_err(|denied| {
            caller.denials.note(Refusal {
                chain: Chain::from(caller.principal.organization().cloned()),
                principal: caller.principal.name().to_owned(),
                role: Some(caller.principal.role().name()),
                key: caller.principal.key().map(ToString::to_string),
                action,
                reason: denied.reason(),
                target: subject,
                route: caller.route.clone(),
            });
            match denied {
                Denied::Foreign => not_found(),
                denied => Problem::new(StatusCode::FORBIDDEN, "ACCESS-0003", "This key may not do that.", denied.to_string()),
            }
        })
    }

    /// On whose things a question is that may name an organization: the one named, else the caller's own, else everything.
    pub fn target(&self, organization: Option<OrganizationId>) -> Target {
        match organization.or_else(|| self.principal().organization().cloned()) {
            Some(organization) => Target::Organization(organization),
            None => Target::Deployment,
        }
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }
}

/// What is not there, or not there for this key: both are answered alike.
pub fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "ACCESS-0004", "There is no such thing.", "nothing of this name is there for this key".to_owned())
}

fn subject(target: &Target) -> String {
    match target {
        Target::Deployment => "deployment".to_owned(),
        Target::Organization(organization) => organization.to_string(),
        Target::Reports(reports) => reports.first().map(ToString::to_string).unwrap_or_default(),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| unauthenticated("ACCESS-0001", "send `Authorization: Bearer tally_…`".to_owned()))
    }
}

/// Recognises the caller of each request but those for health, holds it to its limits, and holds back answers that nobody permitted.
pub async fn recognise(State(access): State<Access>, request: Request, next: Next) -> Response {
    if request.uri().path() == OPEN {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let route = format!("{} {}", parts.method, parts.uri.path());
    let principal = match access.recognise(&parts, &route).await {
        Ok(principal) => principal,
        Err(problem) => return problem.into_response(),
    };
    // Commands of the OS user are as few as the OS user types.
    let working = match principal.key().map(|key| access.meters.admit(key)).transpose() {
        Ok(working) => working,
        Err(over) => return over.into_response(),
    };
    let body = match &working {
        Some(working) => working.metered(body),
        None => body,
    };
    let caller = Caller(Arc::new(Recognised { principal, denials: access.denials.clone(), route, asked: AtomicBool::new(false) }));
    parts.extensions.insert(caller.clone());
    let response = next.run(Request::from_parts(parts, body)).await;
    drop(working);
    if response.status().is_success() && !caller.0.asked.load(Ordering::Relaxed) {
        tracing::error!(route = caller.0.route, "a handler answered without asking whether it may");
        return Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ACCESS-0007",
            "The answer was held back.",
            "nobody asked whether this key may see it: a defect of the server".to_owned(),
        )
        .into_response();
    }
    response
}
