//! Timings, by GoCD's property names.

use std::time::Duration;

use journeyman_host::properties::Properties;

use crate::status_api::StatusApi;

/// How often the agent does what. The defaults are GoCD's.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `agent.ping.delay`: before the first ping.
    pub ping_delay: Duration,
    /// `agent.ping.interval`: from the end of a ping to the next.
    pub ping_interval: Duration,
    /// `agent.instruction.delay`: before the first look at instructions.
    pub instruction_delay: Duration,
    /// `agent.instruction.interval`: between two looks, though one is also taken at once when a
    /// ping brings an instruction.
    pub instruction_interval: Duration,
    /// How to wait between fruitless `get_work`s.
    pub work_pauses: Pauses,
    /// Pause between the two `get_work`s of a pair. GoCD: the first call of an idle agent only
    /// announces it, and the work it was matched with is handed out at a later one.
    pub collect_after: Duration,
    /// How long our own server is asked to hold a `get_work`.
    pub long_poll: Duration,
    /// Between two registrations while pending or refused. GoCD: 5 s, no property.
    pub registration_retry: Duration,
    /// `cruise.console.publish.interval` (in seconds): longest pause between two uploads of
    /// console lines. GoCD: 10 s; ours is below a second.
    pub console_interval: Duration,
    /// `go.agent.status.api.enabled`, `.bind.host` and `.bind.port`.
    pub status_api: Option<StatusApi>,
    /// `journeyman.task.output.limit` (in seconds): how long a task waits, after its own process
    /// has ended, for background processes that still hold its output. GoCD: for ever.
    pub task_output_limit: Duration,
    /// `journeyman.cancel.grace` (in seconds): how long processes get, at a cancel, between the
    /// signal that asks them to end and the one that makes them. GoCD: only asks, until somebody
    /// has the running tasks killed.
    pub cancel_grace: Duration,
    /// `journeyman.keep.background.processes`: what a job leaves running goes on after its end, as
    /// with GoCD, unless the job was cancelled. Else it is ended.
    pub keeps_background_processes: bool,
}

/// A growing pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pauses {
    /// `agent.get.work.delay`
    pub first: Duration,
    /// `agent.get.work.interval`
    pub longest: Duration,
    /// `agent.get.work.backOffMultiplier`
    pub factor: f64,
}

/// The next pause of [`Pauses`].
#[derive(Clone, Debug)]
pub struct BackOff {
    pauses: Pauses,
    next: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_delay: Duration::from_millis(1500),
            ping_interval: Duration::from_millis(5000),
            instruction_delay: Duration::from_millis(1500),
            instruction_interval: Duration::from_millis(10_000),
            work_pauses: Pauses {
                first: Duration::from_millis(1000),
                longest: Duration::from_millis(10_000),
                factor: 1.5,
            },
            collect_after: Duration::from_millis(200),
            long_poll: Duration::from_secs(20),
            registration_retry: Duration::from_secs(5),
            console_interval: Duration::from_millis(250),
            status_api: Some(StatusApi {
                host: "localhost".to_owned(),
                port: 8152,
            }),
            // Longer than anything that is meant to be waited for.
            task_output_limit: Duration::from_secs(600),
            cancel_grace: Duration::from_secs(10),
            keeps_background_processes: false,
        }
    }
}

impl Settings {
    /// The defaults, with what the properties say instead.
    pub fn from_properties(properties: &Properties) -> Self {
        let default = Self::default();
        let millis = |name, otherwise| properties.millis(name).unwrap_or(otherwise);
        // Without a pause between them calls would be all the agent does.
        let pause = |name, otherwise| {
            let given = properties.millis(name).filter(|pause| !pause.is_zero());
            given.unwrap_or(otherwise)
        };
        Self {
            ping_delay: millis("agent.ping.delay", default.ping_delay),
            ping_interval: pause("agent.ping.interval", default.ping_interval),
            instruction_delay: millis("agent.instruction.delay", default.instruction_delay),
            instruction_interval: millis(
                "agent.instruction.interval",
                default.instruction_interval,
            ),
            work_pauses: Pauses {
                first: pause("agent.get.work.delay", default.work_pauses.first),
                longest: pause("agent.get.work.interval", default.work_pauses.longest),
                factor: properties
                    .parse("agent.get.work.backOffMultiplier")
                    .filter(|factor: &f64| factor.is_finite() && *factor >= 1.0)
                    .unwrap_or(default.work_pauses.factor),
            },
            console_interval: properties
                .seconds("cruise.console.publish.interval")
                .unwrap_or(default.console_interval),
            status_api: default
                .status_api
                .filter(|_| {
                    properties
                        .is_on("go.agent.status.api.enabled")
                        .unwrap_or(true)
                })
                .map(|default| StatusApi {
                    host: properties
                        .get("go.agent.status.api.bind.host")
                        .map_or(default.host, str::to_owned),
                    port: properties
                        .parse("go.agent.status.api.bind.port")
                        .unwrap_or(default.port),
                }),
            task_output_limit: properties
                .seconds("journeyman.task.output.limit")
                .unwrap_or(default.task_output_limit),
            cancel_grace: properties
                .seconds("journeyman.cancel.grace")
                .unwrap_or(default.cancel_grace),
            keeps_background_processes: properties
                .is_on("journeyman.keep.background.processes")
                .unwrap_or(default.keeps_background_processes),
            ..default
        }
    }
}

impl BackOff {
    pub fn new(pauses: Pauses) -> Self {
        Self {
            pauses,
            next: pauses.first.min(pauses.longest),
        }
    }

    /// The pause to make now; the one after it will be longer.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        // GoCD counts whole milliseconds.
        let longer = pause.as_millis() as f64 * self.pauses.factor;
        self.next = Duration::try_from_secs_f64(longer.floor() / 1000.0)
            .unwrap_or(self.pauses.longest)
            .min(self.pauses.longest);
        pause
    }

    pub fn reset(&mut self) {
        *self = Self::new(self.pauses);
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn pauses_are_those_of_gocd() {
        let mut back_off = BackOff::new(Settings::default().work_pauses);
        let pauses: Vec<u128> = (0..8).map(|_| back_off.pause().as_millis()).collect();
        assert_eq!(pauses, [1000, 1500, 2250, 3375, 5062, 7593, 10_000, 10_000]);
        back_off.reset();
        assert_eq!(back_off.pause(), Duration::from_secs(1));
    }

    #[test]
    fn properties_change_the_timings_and_nonsense_does_not() {
        let settings = Settings::from_properties(&Properties::from_startup_arguments(
            "-Xmx256m -Dagent.ping.interval=200 -Dagent.get.work.backOffMultiplier=0.1 \
             -Dagent.get.work.delay=50 -Dcruise.console.publish.interval=3 \
             -Dgo.agent.status.api.bind.host=0.0.0.0 -Dgo.agent.status.api.bind.port=99999 \
             -Djourneyman.task.output.limit=30",
        ));
        let status_api = settings.status_api.clone().unwrap();
        assert_eq!(
            (status_api.host.as_str(), status_api.port),
            ("0.0.0.0", 8152)
        );
        let off = Properties::from_startup_arguments("-Dgo.agent.status.api.enabled=no");
        assert_eq!(Settings::from_properties(&off).status_api, None);
        assert_eq!(settings.task_output_limit, Duration::from_secs(30));
        assert_eq!(settings.ping_interval, Duration::from_millis(200));
        assert_eq!(settings.work_pauses.factor, 1.5);
        assert_eq!(settings.work_pauses.first, Duration::from_millis(50));
        assert_eq!(settings.console_interval, Duration::from_secs(3));
        assert_eq!(settings.ping_delay, Settings::default().ping_delay);
        let none = Settings::from_properties(&Properties::from_startup_arguments(
            "-Dagent.ping.interval=0 -Dagent.get.work.delay=0 -Dagent.get.work.interval=0",
        ));
        assert_eq!(none, Settings::default());
    }
}
