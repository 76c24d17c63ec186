//! The jobs recorded from GoCD's agent, and our own in the same form: ours does the same with them.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use journeyman_tests::conformance::{Options, own_folders, run_folders};

#[test]
fn recorded_jobs_come_out_the_same() {
    let options = Options::declared().unwrap();
    let mut failed = String::new();
    let summary = run_folders(&own_folders(), &options, |outcome| {
        if !outcome.passed() {
            failed += &format!("{outcome}\n");
        }
    });
    let summary = summary.unwrap();
    assert!(failed.is_empty(), "\n{failed}{summary}");
    assert!(summary.passed >= 100, "{summary}");
}
