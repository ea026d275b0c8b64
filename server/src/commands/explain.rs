//! `tally explain`: the story of an event, a charge or an invoice line, as the API tells it.

use clap::Args;
use platform_catalog::Scope;

use super::Refused;
use crate::answers::Answers;
use crate::home::Home;
use crate::routes::platform_ingest::identity_of;
use crate::routes::platform_rating::charge_of;
use crate::story::{self, Asked, ExplanationView, StoryError, Trace};
use crate::{Common, Format, Outcome};

/// Arguments of `tally explain`.
#[derive(Args)]
#[command(
    group(clap::ArgGroup::new("what").required(true).args(["subject", "event"])),
    after_help = "Examples:\n  tally explain --organization acme --source gateway --event r1\n  tally explain 76a4c0c1e6fe5281bee01e8e31693e79\n  \
                  tally explain 76a4c0c1e6fe5281bee01e8e31693e79:0\n  tally explain TALLY-000042:1"
)]
pub struct ExplainArguments {
    /// An identity (32 hex digits), a charge (`<identity>:<ordinal>`), or a line of an invoice (`<id or number>:<line>`).
    subject: Option<String>,
    /// The sender's id of an event, with --organization and --source.
    #[arg(long, requires_all = ["organization", "source"])]
    event: Option<String>,
    /// Who owes.
    #[arg(long, requires = "event")]
    organization: Option<String>,
    /// Who sent the event.
    #[arg(long, requires = "event")]
    source: Option<String>,
}

/// Prints the story; exit 1 when there is nothing of that name.
pub async fn run(arguments: ExplainArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let answers = Answers::open(&home).await?;
    if let Some((identity, ordinal)) = arguments.subject.as_deref().and_then(charge_of) {
        let explanation = story::explain_charge(&answers, &Scope::Operator, identity, ordinal).await.map_err(refused)?;
        let Some(explanation) = explanation else {
            return Err(Refused(format!(
                "there is no charge {identity}:{ordinal}; `tally explain {identity}` says what became of the event"
            ))
            .into());
        };
        match common.format {
            Format::Json => println!("{}", serde_json::to_string(&ExplanationView::from(&explanation))?),
            _ => print!("{}", explanation.text()),
        }
        return Ok(Outcome::Done);
    }
    if let Some((name, line)) = arguments.subject.as_deref().and_then(|subject| subject.rsplit_once(':')) {
        let none = || Refused(format!("invoice {name} has no line {line}; `tally invoice show {name}` shows its lines"));
        let Some(stored) = story::invoice(&answers, &Scope::Operator, name).await.map_err(refused)? else {
            return Err(Refused(format!("there is no charge and no invoice {name}; `tally invoice list` lists the invoices")).into());
        };
        let number = line.parse().map_err(|_| none())?;
        let explanation = story::explain_line(&answers, &stored, number).await.map_err(refused)?.ok_or_else(none)?;
        match common.format {
            Format::Json => println!("{}", serde_json::to_string(&explanation)?),
            _ => print!("{}", explanation.text),
        }
        return Ok(Outcome::Done);
    }
    let asked = match (arguments.subject, arguments.event, arguments.organization, arguments.source) {
        (None, Some(event_id), Some(organization), Some(source)) => Asked::Names { organization, source, event_id },
        (Some(subject), ..) => {
            let wrong = || {
                Refused(format!(
                    "{subject:?} is no identity (32 hex digits), charge (<identity>:<ordinal>) or invoice line (<invoice>:<line>)"
                ))
            };
            Asked::Identity(identity_of(&subject).ok_or_else(wrong)?)
        }
        _ => return Err(Refused("--event needs --organization and --source".to_owned()).into()),
    };
    let trace = story::trace(&answers, &Scope::Operator, &asked).await.map_err(refused)?;
    let found = trace.outcome != "not_received";
    match common.format {
        Format::Json => println!("{}", serde_json::to_string(&trace)?),
        _ => print!("{}", with_charges(&answers, &trace).await?),
    }
    Ok(if found { Outcome::Done } else { Outcome::Found })
}

/// The story of the event, then the page of each of its charges.
async fn with_charges(answers: &Answers, trace: &Trace) -> anyhow::Result<String> {
    let mut text = trace.text();
    let identity = identity_of(&trace.identity);
    for rated in match identity {
        Some(identity) => story::charges(answers, &Scope::Operator, identity).await.map_err(refused)?,
        None => Vec::new(),
    } {
        text.push('\n');
        text.push_str(&story::explain(answers, rated).await.map_err(refused)?.text());
    }
    Ok(text)
}

/// Rows that contradict the rule are the input's fault, and are named; everything else is ours.
fn refused(error: StoryError) -> anyhow::Error {
    match error {
        StoryError::Explain(error) => Refused(format!("{:#}", anyhow::Error::from(error))).into(),
        StoryError::Answer(error) => error.into(),
    }
}
