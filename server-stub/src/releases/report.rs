//! What machines say of themselves, read part by part.

use journeyman_protocol::release::MachineReport;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Letters of a text at most; longer ones are cut.
const LONGEST_TEXT: usize = 2000;
/// Items of a list at most; the others are left out.
const MOST_ITEMS: usize = 100;

/// A part of a report that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadField {
    pub(super) field: String,
    pub(super) cause: String,
}

/// Reads a report, part by part: one that cannot be read is left out, and the others count.
///
/// # Errors
///
/// It is no JSON object at all.
pub(super) fn parse(body: &[u8]) -> Result<(MachineReport, Vec<BadField>), serde_json::Error> {
    let mut members: Map<String, Value> = serde_json::from_slice(body)?;
    let mut bad = Vec::new();
    let mut report = MachineReport {
        platform: part(&mut members, "platform", &mut bad).unwrap_or_default(),
        bootstrapper: part(&mut members, "bootstrapper", &mut bad),
        launcher: part(&mut members, "launcher", &mut bad),
        agent: part(&mut members, "agent", &mut bad),
        previous: part(&mut members, "previous", &mut bad),
        upgrade: part(&mut members, "upgrade", &mut bad),
        bad: items(&mut members, "bad", &mut bad),
        set_aside: items(&mut members, "setAside", &mut bad),
    };
    shorten(&mut report);
    Ok((report, bad))
}

fn part<T: DeserializeOwned>(
    members: &mut Map<String, Value>,
    name: &str,
    bad: &mut Vec<BadField>,
) -> Option<T> {
    let value = members.remove(name)?;
    serde_json::from_value::<Option<T>>(value).unwrap_or_else(|error| {
        bad.push(BadField {
            field: name.to_owned(),
            cause: error.to_string(),
        });
        None
    })
}

fn items<T: DeserializeOwned>(
    members: &mut Map<String, Value>,
    name: &str,
    bad: &mut Vec<BadField>,
) -> Vec<T> {
    let items: Vec<Value> = part(members, name, bad).unwrap_or_default();
    let mut read = Vec::new();
    for (index, item) in items.into_iter().take(MOST_ITEMS).enumerate() {
        match serde_json::from_value(item) {
            Ok(item) => read.push(item),
            Err(error) => bad.push(BadField {
                field: format!("{name}[{index}]"),
                cause: error.to_string(),
            }),
        }
    }
    read
}

fn shorten(report: &mut MachineReport) {
    let builds = [
        &mut report.launcher,
        &mut report.agent,
        &mut report.previous,
    ];
    for build in builds.into_iter().flatten() {
        cut(&mut build.version);
        cut(&mut build.sha256);
    }
    for bad in &mut report.bad {
        cut(&mut bad.reason);
        cut(&mut bad.build.version);
        cut(&mut bad.build.sha256);
    }
    if let Some(upgrade) = &mut report.upgrade {
        upgrade.reason.iter_mut().for_each(cut);
        cut(&mut upgrade.to.version);
    }
    report.bootstrapper.iter_mut().for_each(cut);
    report.set_aside.iter_mut().for_each(cut);
    cut(&mut report.platform);
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::release::Build;
    use pretty_assertions::assert_eq;

    use super::*;

    /// Vector 56.
    #[test]
    fn a_malformed_part_does_not_spoil_the_rest() {
        let body = serde_json::json!({
            "platform": "linux-x86_64",
            "bootstrapper": null,
            "launcher": { "version": "0.1.0", "build": 3 },
            "agent": { "build": "many" },
            "upgrade": { "component": "agent", "to": { "version": "1" }, "state": "levitating" },
            "bad": [
                { "component": "agent", "build": { "version": "2", "build": 4 }, "reason": "x".repeat(5000) },
                { "component": "toaster" },
            ],
            "setAside": "all",
            "future": { "anything": [] },
        });
        let (report, bad) = parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(report.platform, "linux-x86_64");
        let launcher = Build {
            version: "0.1.0".to_owned(),
            build: 3,
            sha256: String::new(),
        };
        assert_eq!(report.launcher, Some(launcher));
        assert_eq!((&report.agent, &report.upgrade), (&None, &None));
        assert_eq!(report.bad.len(), 1);
        assert_eq!(report.bad[0].reason.len(), LONGEST_TEXT);
        let fields: Vec<&str> = bad.iter().map(|bad| bad.field.as_str()).collect();
        assert_eq!(fields, ["agent", "upgrade", "bad[1]", "setAside"]);
        assert!(parse(b"[]").is_err());
        assert!(parse(b"{").is_err());
    }
}
