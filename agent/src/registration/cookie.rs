//! The cookie, by which the server tells two agents with one GUID apart.

use std::time::Duration;

use journeyman_host::autoregister;
use journeyman_protocol::launcher::Contact;
use tokio::time::{Instant, sleep};

use crate::{
    lifecycle::{Event, Lifecycle, State},
    remoting::Session,
    settings::{BackOff, Settings},
};

/// After a rejection: no pause before the first new cookie, then these. Two agents with one GUID
/// take the cookie from each other; the pauses keep that from becoming a storm.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Rejections further apart than this have nothing to do with each other.
const FORGET_AFTER: Duration = Duration::from_secs(900);

/// How the last cookies fared.
#[derive(Clone, Copy, Debug, Default)]
pub struct CookieHistory {
    last: Option<(Instant, Duration)>,
}

/// Gets a cookie and tells the lifecycle, or that the registration is lost. `history` is given
/// after the server rejected a cookie that it had given out.
pub async fn obtain_cookie(
    session: &Session,
    lifecycle: &Lifecycle,
    settings: &Settings,
    history: Option<&mut CookieHistory>,
) {
    if let Some(history) = history {
        let pause = history.pause();
        tracing::warn!(
            uuid = session.uuid(),
            pause_seconds = pause.as_secs(),
            "The server does not take this agent's cookie any more. Another agent may have the \
             same GUID: no two working directories may have the same config/guid.txt. Getting a \
             new cookie"
        );
        sleep(pause).await;
    }
    let mut back_off = BackOff::new(settings.work_pauses);
    let mut failures: u32 = 0;
    loop {
        let Some(token) = session.token() else {
            lifecycle.apply(Event::RegistrationLost);
            return;
        };
        // GoCD: a cookie is asked for by an idle agent; the state is not looked at.
        let mut info = session.runtime_info(&State::Registered);
        info.cookie = None;
        let result = session.remoting().get_cookie(&token, info).await;
        let give_up = session.note(&result);
        match result {
            Ok(cookie) => {
                if let Err(error) = session.keep_cookie(cookie) {
                    tracing::error!(%error, "Cannot keep the cookie");
                    sleep(back_off.pause()).await;
                    continue;
                }
                // An agent that died right after its registration has not come to this.
                if let Err(error) = autoregister::scrub(&session.workdir) {
                    tracing::error!(%error, "Cannot remove what the agent has registered with");
                }
                session.say(Contact::Registered);
                lifecycle.apply(Event::CookieReceived);
                return;
            }
            Err(error) if error.is_unregistered() || give_up => {
                tracing::info!(%error, "Registering again");
                lifecycle.apply(Event::RegistrationLost);
                return;
            }
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        failures,
                        "Cannot get a cookie"
                    );
                }
                sleep(back_off.pause()).await;
            }
        }
    }
}

// === impl CookieHistory ===

impl CookieHistory {
    /// The pause before the next cookie.
    fn pause(&mut self) -> Duration {
        let now = Instant::now();
        let pause = match self.last {
            Some((at, before)) if now - at < FORGET_AFTER => {
                (before * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
            }
            _ => Duration::ZERO,
        };
        self.last = Some((now + pause, pause));
        pause
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cookies_are_renewed_at_once_and_then_ever_more_slowly() {
        let mut history = CookieHistory::default();
        let mut pauses = vec![];
        for _ in 0..8 {
            let pause = history.pause();
            pauses.push(pause.as_secs());
            advance(pause + Duration::from_secs(5)).await;
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        advance(FORGET_AFTER).await;
        assert_eq!(history.pause(), Duration::ZERO);
    }
}
