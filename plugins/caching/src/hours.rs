//! When prices move: hours of the working days in a time zone, from the plugin's settings.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use wharf_sdk::{Error, config};

/// Whether trade goes on now.
///
/// # Errors
/// 500 where the settings are wrong.
pub(crate) fn is_open() -> Result<bool, Error> {
    match config::get("market")?.as_deref().unwrap_or("hours") {
        "open" => Ok(true),
        "closed" => Ok(false),
        "hours" => {
            let setting = |name, default: &str| {
                config::get(name).map(|value| value.unwrap_or_else(|| default.to_owned()))
            };
            let zone = setting("time-zone", "America/New_York")?;
            let (opens, closes) = (setting("opens", "09:30")?, setting("closes", "16:00")?);
            within(Timestamp::now(), &zone, &opens, &closes)
        }
        other => Err(Error::internal(format!(
            "setting \"market\": {other:?} is neither \"hours\" nor \"open\" nor \"closed\""
        ))),
    }
}

fn within(now: Timestamp, zone: &str, opens: &str, closes: &str) -> Result<bool, Error> {
    let wrong =
        |what: &str, error: jiff::Error| Error::internal(format!("setting \"{what}\": {error}"));
    let zone = TimeZone::get(zone).map_err(|error| wrong("time-zone", error))?;
    let hour =
        |name: &str, text: &str| Time::strptime("%H:%M", text).map_err(|error| wrong(name, error));
    let (opens, closes) = (hour("opens", opens)?, hour("closes", closes)?);
    let there: Zoned = now.to_zoned(zone);
    let is_working = !matches!(there.weekday(), Weekday::Saturday | Weekday::Sunday);
    Ok(is_working && (opens..closes).contains(&there.time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_place_in_summer_and_winter() {
        for (now, open) in [
            // A Wednesday in winter: New York is five hours behind.
            ("2025-01-15T14:29:59Z", false),
            ("2025-01-15T14:30:00Z", true),
            ("2025-01-15T20:59:59Z", true),
            ("2025-01-15T21:00:00Z", false),
            // In summer it is four.
            ("2025-07-16T13:30:00Z", true),
            ("2025-07-16T20:00:00Z", false),
            // Saturday.
            ("2025-07-19T15:00:00Z", false),
        ] {
            let told = within(now.parse().unwrap(), "America/New_York", "09:30", "16:00");

            assert_eq!(told.unwrap(), open, "{now}");
        }
    }

    #[test]
    fn settings_that_are_wrong_are_errors() {
        let now = Timestamp::UNIX_EPOCH;
        for (zone, opens) in [("Atlantis/Harbour", "09:30"), ("Europe/Berlin", "half past nine")] {
            assert_eq!(within(now, zone, opens, "16:00").unwrap_err().status(), 500);
        }
    }
}
