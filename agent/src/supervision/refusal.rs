//! Reporting a job that this agent cannot run.

use journeyman_protocol::{
    agent::RuntimeStatus,
    console::{Tag, format_line},
    job::JobResult,
};

use super::reporting::report_completed;
use crate::{
    job::server::{CookieSource, JobServer},
    lifecycle::{Lifecycle, Run},
    remoting::{Session, refusal::is_unregistered},
};

/// Says on the job's console why it cannot be run, and reports it failed. Touches no disk: a full
/// one may be the reason.
pub(super) async fn refuse(session: &Session, lifecycle: &Lifecycle, run: &Run, reason: &str) {
    let server = JobServer::new(
        session.connection().client().clone(),
        session.server_connection(),
        session.runtime_info(&lifecycle.state()),
        run.job.clone(),
        session.workdir.root(),
        CookieSource::Agent(session.cookies()),
    );
    let now = jiff::Zoned::now().time();
    let line = format_line(Tag::Err, now, &format!("[go] {reason}"));
    let mut tries = 0;
    loop {
        let used = server.credentials();
        let said = server.put_console(0, line.clone().into_bytes(), "UTF-8");
        let Err(error) = said.await else { break };
        if let Some(status) = error.refused_with()
            && is_unregistered(status)
            && server.renewed(&used, status).await
        {
            continue;
        }
        tries += 1;
        if !error.is_outage() || tries == 5 {
            tracing::warn!(%error, job = run.job.locator(), "The console does not say why the job failed");
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500 * tries)).await;
    }
    let accepted = report_completed(
        session,
        lifecycle,
        &server,
        RuntimeStatus::Building,
        JobResult::Failed,
    )
    .await;
    tracing::info!(
        job = run.job.locator(),
        accepted,
        reason,
        "Reported a job that cannot be run"
    );
}
