//! Which machine hears of an offer, and when.
//!
//! Both follow from ids alone, so that every server computes the same at any time, and a machine
//! that was off when its time came hears of the offer at once.

use std::{fmt, str::FromStr, time::Duration};

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::agents::Agent;

/// Whom an offer is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Everybody, machines that have not registered yet too.
    All,
    /// The agents in an environment.
    Environment(String),
    /// Agents by uuid or host name.
    Agents(Vec<String>),
    /// So many of a hundred, always the same for one release: a larger share adds machines.
    Percent(u8),
}

/// A target that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is nobody that a release can be offered to: use all, environment=NAME, agents=A,B (uuids or \
     host names) or percent=N (1 to 100)"
)]
pub struct TargetError(String);

// === impl Target ===

impl Target {
    /// Whether an agent is meant.
    pub fn is_for(&self, agent: &Agent, release: &str) -> bool {
        match self {
            Self::All => true,
            Self::Environment(name) => agent
                .environments
                .iter()
                .any(|one| one.eq_ignore_ascii_case(name)),
            Self::Agents(names) => names
                .iter()
                .any(|name| *name == agent.uuid || name.eq_ignore_ascii_case(&agent.hostname)),
            Self::Percent(percent) => is_within(release, &agent.uuid, *percent),
        }
    }

    /// Whether a machine is meant of which nothing is known.
    pub fn is_for_strangers(&self) -> bool {
        matches!(self, Self::All | Self::Percent(100..))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.trim();
        match (kind.trim(), value) {
            ("all", "") => Ok(Self::All),
            (_, "") => Err(wrong()),
            ("environment", name) => Ok(Self::Environment(name.to_owned())),
            ("agents", names) => {
                let names = names.split(',').map(str::trim);
                let names: Vec<String> = names
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect();
                if names.is_empty() {
                    return Err(wrong());
                }
                Ok(Self::Agents(names))
            }
            ("percent", share) => parse_percent(share).map(Self::Percent).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::Environment(name) => write!(formatter, "environment={name}"),
            Self::Agents(names) => write!(formatter, "agents={}", names.join(",")),
            Self::Percent(share) => write!(formatter, "percent={share}"),
        }
    }
}

/// 1 to 100, with or without a percent sign.
pub fn parse_percent(text: &str) -> Option<u8> {
    let text = text.trim();
    let digits = text.strip_suffix('%').unwrap_or(text);
    digits
        .parse()
        .ok()
        .filter(|share| (1..=100).contains(share))
}

/// A time like `90s`, `30m`, `2h` or `1d`; `0` is none at all.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "" if number == 0 => 0,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// When a machine may hear of an offer: some time within the duration, the same wherever and
/// whenever it is computed.
pub fn not_before(offer: i64, agent: &str, started_at: i64, duration_ms: i64) -> i64 {
    let hash = u128::from(hash(&format!("offer {offer}"), agent));
    let duration = u128::try_from(duration_ms).unwrap_or(0);
    let offset = (duration * hash) >> 64;
    started_at.saturating_add(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// Whether a machine is among the first `percent` of a release.
fn is_within(release: &str, agent: &str, percent: u8) -> bool {
    u128::from(hash(release, agent)) * 100 < u128::from(percent) << 64
}

/// A number for a machine, evenly spread over all there are.
fn hash(what: &str, agent: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, format!("{what}\n{agent}").as_bytes());
    digest
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn guids() -> impl Iterator<Item = String> {
        (0..1000).map(|number: u32| format!("0a9d8c7b-0000-4000-8000-{number:012}"))
    }

    #[test]
    fn a_share_is_the_same_machines_and_only_grows() {
        for percent in [1, 10, 25, 50, 99] {
            let within: Vec<String> = guids()
                .filter(|guid| is_within("0.2.0-7", guid, percent))
                .collect();
            let expected = usize::from(percent) * 10;
            assert!(
                within.len().abs_diff(expected) <= 40,
                "{percent} %: {} of 1000",
                within.len()
            );
            assert!(
                within
                    .iter()
                    .all(|guid| is_within("0.2.0-7", guid, percent + 1))
            );
        }
        assert!(guids().all(|guid| is_within("0.2.0-7", &guid, 100)));
        // Another release begins with other machines: not always the same ones go first.
        let first = |release| {
            guids()
                .filter(|guid| is_within(release, guid, 10))
                .collect::<Vec<_>>()
        };
        assert!(first("0.2.0-7") != first("0.3.0-8"));
    }

    /// Vector 53: the same offset everywhere, evenly spread, and no other for a machine that asks
    /// late.
    #[test]
    fn an_hour_is_used_evenly() {
        const HOUR: i64 = 3_600_000;
        let start = 1_700_000_000_000;
        let mut tenths = [0_u32; 10];
        for guid in guids() {
            let time = not_before(4, &guid, start, HOUR);
            assert_eq!(time, not_before(4, &guid, start, HOUR));
            assert!((start..start + HOUR).contains(&time));
            tenths[usize::try_from((time - start) / (HOUR / 10)).unwrap()] += 1;
            assert_eq!(not_before(4, &guid, start, 0), start);
        }
        assert!(
            tenths.iter().all(|count| (70..=130).contains(count)),
            "{tenths:?}"
        );
        // Written down, so that no later version of the server computes another one.
        let known = not_before(4, "0a9d8c7b-0000-4000-8000-000000000000", 0, HOUR);
        assert_eq!(known, 5434);
    }

    #[test]
    fn targets_are_read_as_they_are_written() {
        for text in ["all", "environment=test", "agents=a,b-7", "percent=10"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "everybody",
            "environment=",
            "agents=,",
            "percent=0",
            "percent=101",
            "percent=x",
            "all=1",
        ] {
            let error = wrong.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("environment=NAME"), "{error}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [
            ("0", 0),
            ("90s", 90),
            ("30m", 1800),
            (" 2h ", 7200),
            ("1d", 86_400),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for wrong in [
            "",
            "2",
            "h",
            "-1h",
            "1.5h",
            "1w",
            "99999999999999999999s",
            "9999999999999999999d",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
