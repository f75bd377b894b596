//! A job as clients see it.

use serde::{Deserialize, Serialize};
use wharf_sdk::Error;

/// Bytes of a name.
const MAX_NAME: usize = 100;
/// Steps of a job: at ten a second, some minutes.
const MAX_STEPS: u32 = 5000;
/// Steps of a job that does not say.
const DEFAULT_STEPS: u32 = 20;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Pending,
    Running,
    Completed,
    Failed,
}

impl Status {
    /// As it is in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "completed" => Self::Completed,
            _ => Self::Failed,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A job.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Job {
    pub(crate) job_id: String,
    pub(crate) name: String,
    pub(crate) steps: u32,
    pub(crate) done: u32,
    pub(crate) status: Status,
    pub(crate) message: String,
    /// The id of the event that told of this.
    #[serde(skip)]
    pub(crate) event: String,
}

/// What a `progress` event has.
#[derive(Debug, Serialize)]
pub(crate) struct Progress<'a> {
    job_id: &'a str,
    status: Status,
    /// Percent.
    progress: u32,
    message: &'a str,
    step: u32,
    steps: u32,
}

impl Job {
    pub(crate) fn progress(&self) -> Progress<'_> {
        Progress {
            job_id: &self.job_id,
            status: self.status,
            progress: u32::try_from(u64::from(self.done) * 100 / u64::from(self.steps.max(1)))
                .unwrap_or(100),
            message: &self.message,
            step: self.done,
            steps: self.steps,
        }
    }
}

/// What `POST /jobs` takes.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    name: String,
    steps: Option<u32>,
}

impl Order {
    /// Name and steps.
    ///
    /// # Errors
    ///
    /// 422 where one of them cannot be so.
    pub(crate) fn checked(self) -> Result<(String, u32), Error> {
        let steps = self.steps.unwrap_or(DEFAULT_STEPS);
        let name = self.name.trim();
        if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
            let rule = format!("name has 1 to {MAX_NAME} bytes and no control characters");
            return Err(Error::unprocessable(rule));
        }
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(Error::unprocessable(format!("steps is 1 to {MAX_STEPS}")));
        }
        Ok((name.to_owned(), steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_checked() {
        for (json, expected) in [
            (r#"{"name":" a ","steps":3}"#, Some(("a", 3))),
            (r#"{"name":"a"}"#, Some(("a", 20))),
            (r#"{"name":"a","steps":0}"#, None),
            (r#"{"name":"a","steps":5001}"#, None),
            (r#"{"name":"","steps":1}"#, None),
            (r#"{"name":"a\nb","steps":1}"#, None),
        ] {
            let order: Order = serde_json::from_str(json).unwrap();

            let told = order.checked();

            assert_eq!(told.as_ref().ok().map(|(name, steps)| (&**name, *steps)), expected);
            assert!(told.is_ok() || told.unwrap_err().status() == 422);
        }
    }
}
