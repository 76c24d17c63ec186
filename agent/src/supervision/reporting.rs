//! The last report of a job whose runner cannot make it.

use std::time::Duration;

use journeyman_protocol::{agent::RuntimeStatus, job::JobResult};
use tokio::time::sleep;

use crate::{
    job::server::JobServer,
    lifecycle::{Event, Lifecycle},
    remoting::Session,
};

/// Pauses while nobody answers.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often a refused report is made again, and how far apart.
const REFUSALS: u32 = 4;
const AFTER_REFUSAL: Duration = Duration::from_secs(6);

/// Reports how a job has ended. True: the server took it. False: it refused it for good; GoCD's
/// server then gives the job to somebody else as soon as this agent asks for work.
pub(super) async fn report_completed(
    session: &Session,
    lifecycle: &Lifecycle,
    server: &JobServer,
    status: RuntimeStatus,
    result: JobResult,
) -> bool {
    let mut pause = FIRST_PAUSE;
    let mut refusals = 0;
    let mut outages: u32 = 0;
    loop {
        let used = server.credentials();
        match server.report_completed(status, result).await {
            Ok(()) => return true,
            Err(error) if error.is_outage() => {
                outages += 1;
                if outages.is_power_of_two() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        outages,
                        "Cannot report the end of a job; trying again"
                    );
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => {
                refusals += 1;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    job = server.job().locator(),
                    refusals,
                    "The server does not take the report of a job's end"
                );
                if refusals == REFUSALS {
                    return false;
                }
                if session.cookie().is_none() {
                    lifecycle.apply(Event::CookieRejected);
                }
                match error.refused_with() {
                    Some(status) if server.renewed(&used, status).await => {}
                    _ => sleep(AFTER_REFUSAL).await,
                }
            }
        }
    }
}
