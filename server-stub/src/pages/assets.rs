//! The style sheet and the scripts. Their addresses name their content, so that browsers keep them
//! until it changes.

use std::sync::LazyLock;

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use http::header;
use ring::digest;

use super::not_found;
use crate::answer::Refusal;
use crate::hex::hex;

const STYLE: &str = concat!(
    include_str!("assets/tokens.css"),
    include_str!("assets/base.css"),
    include_str!("assets/runs.css"),
    include_str!("assets/console.css"),
);

struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
    version: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let style = "text/css; charset=utf-8";
    let script = "text/javascript; charset=utf-8";
    [
        ("style.css", style, STYLE),
        ("live.js", script, include_str!("assets/live.js")),
        ("colours.css", style, super::job::STYLE.as_str()),
        ("console.js", script, include_str!("assets/console.js")),
    ]
    .into_iter()
    .map(|(name, media_type, text)| {
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        Asset {
            name,
            media_type,
            text,
            version: hex(&digest.as_ref()[..8]),
        }
    })
    .collect()
});

#[derive(serde::Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    v: String,
}

/// Where pages find an asset.
pub(crate) fn address(name: &str) -> String {
    let version = find(name).map_or("", |asset| &asset.version);
    format!("/go/assets/{name}?v={version}")
}

pub(super) async fn serve(
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let asset = find(&name).ok_or_else(|| not_found("such asset"))?;
    let keep = if asked.v == asset.version {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, keep),
    ];
    Ok((headers, asset.text).into_response())
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The colours of one scheme by name, as linear red, green and blue.
    fn colours(block: &str) -> HashMap<&str, [f64; 3]> {
        let pairs = block.split(';').filter_map(|one| one.split_once(": #"));
        pairs
            .map(|(name, hex)| {
                let part = |at: usize| {
                    let value = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                    let value = f64::from(value) / 255.0;
                    if value <= 0.04045 {
                        value / 12.92
                    } else {
                        ((value + 0.055) / 1.055).powf(2.4)
                    }
                };
                (
                    name.rsplit("--").next().unwrap(),
                    [part(0), part(2), part(4)],
                )
            })
            .collect()
    }

    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let light = |[red, green, blue]: [f64; 3]| 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        let (one, other) = (light(one) + 0.05, light(other) + 0.05);
        one.max(other) / one.min(other)
    }

    /// WCAG 2 AA: 4.5 for text, 3 for the borders of fields.
    #[test]
    fn every_ink_is_legible_on_what_it_stands_on_in_both_schemes() {
        let tokens = include_str!("assets/tokens.css");
        let (light, dark) = tokens.split_once("@media").unwrap();
        for (scheme, block) in [("light", light), ("dark", dark)] {
            let colours = colours(block);
            let check = |ink: &str, back: &str, least: f64| {
                let got = contrast(colours[ink], colours[back]);
                assert!(got >= least, "{scheme}: {ink} on {back} has {got:.2}");
            };
            for ink in ["ink", "quiet", "accent", "good", "bad", "busy", "off"] {
                check(ink, "paper", 4.5);
                check(ink, "card", 4.5);
            }
            for tone in ["good", "bad", "busy", "off", "accent"] {
                check(tone, &format!("{tone}-back"), 4.5);
                check("ink", &format!("{tone}-back"), 4.5);
            }
            check("on-accent", "accent", 4.5);
            check("console-ink", "console", 4.5);
            check("edge", "card", 3.0);
        }
    }

    #[test]
    fn pages_load_nothing_from_elsewhere() {
        for asset in ASSETS.iter() {
            for foreign in ["http://", "https://", "@import", "url("] {
                assert!(!asset.text.contains(foreign), "{}: {foreign}", asset.name);
            }
            assert!(address(asset.name).ends_with(&asset.version));
        }
    }
}
