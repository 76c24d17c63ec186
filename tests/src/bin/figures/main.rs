//! Measures the figures of the README with the real programs and prints medians.
//!
//! `make bench` runs it with what is shipped (profile `dist`). An argument picks one figure by its
//! name; those of the server take a part of it (`agents`, `jobs`, `console`, `artifacts`, `dashboard`) as
//! a second one, and for how many seconds to measure as a third.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot be made ends with a panic that says where"
)]

mod checkout;
mod console;
mod jobs;
mod latency;
mod masking;
mod memory;
mod server;
mod start;
mod upgrade;
mod upload;

use std::env;

/// How often a short figure is measured.
const ROUNDS: usize = 11;

/// Measures, and says what came out.
type Figure = fn() -> String;

/// What can be measured, by the name that picks it.
const FIGURES: &[(&str, Figure)] = &[
    ("start", start::figure),
    ("memory", memory::figure),
    ("latency", latency::figure),
    ("console", console::figure),
    ("checkout", checkout::figure),
    ("jobs", jobs::figure),
    ("masking", masking::figure),
    ("upload", upload::figure),
    ("upgrade", upgrade::figure),
    ("server", server::figure),
];

#[expect(clippy::print_stdout, reason = "the output of this program")]
fn main() {
    let only = env::args().nth(1);
    for (name, figure) in FIGURES {
        if only.as_deref().is_none_or(|only| only == *name) {
            println!("{}", figure());
        }
    }
}

fn median(samples: &mut [i64]) -> i64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Of sorted samples.
fn range(samples: &[i64], unit: &str) -> String {
    format!("{} to {} {unit}", samples[0], samples[samples.len() - 1])
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
