//! Renewal of the agent's certificate at two thirds of its life.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::request::{Answer, attempt};
use crate::remoting::Session;

/// Longest sleep: clocks are set, machines suspended.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Pause after a renewal that did not work; a third of the certificate's life is left for it.
const RETRY: Duration = Duration::from_secs(60);

/// Renews the certificate whenever it is due, by registering again over the connection it secures.
/// Never returns.
pub async fn renew_certificates(session: &Session, now: impl Fn() -> Timestamp) {
    loop {
        let connection = session.connection();
        let wait = connection
            .renew_at()
            .map_or(LOOK_AGAIN, |at| until(at, now()));
        if !wait.is_zero() {
            // The first certificate comes with a connection of its own.
            tokio::select! {
                () = sleep(wait.min(LOOK_AGAIN)) => {}
                () = session.reconnected() => {}
            }
            continue;
        }
        match attempt(session, &connection).await {
            Ok(Answer::Registered) if session.connection().renew_at() > connection.renew_at() => {
                tracing::info!("Renewed the agent's certificate");
            }
            Ok(answer) => {
                tracing::warn!(?answer, "The server gave no new certificate; asking again");
                sleep(RETRY).await;
            }
            Err(error) => {
                tracing::warn!(%error, "Cannot renew the agent's certificate; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_renewal_waits_no_longer() {
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(until(at, at), Duration::ZERO);
        assert_eq!(until(at, at + Duration::from_secs(5)), Duration::ZERO);
        assert_eq!(
            until(at, at - Duration::from_secs(5)),
            Duration::from_secs(5)
        );
    }
}
