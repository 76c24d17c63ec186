//! The instruction loop: hands what the last ping brought to the job it was meant for.

use journeyman_protocol::remoting::AgentInstruction;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    job::folder::JobFolder,
    lifecycle::{Event, Lifecycle},
    settings::Settings,
};

/// Holds the last instruction, with the run that the agent had named in that ping.
#[derive(Debug, Default)]
pub struct InstructionSlot {
    last: watch::Sender<Option<(JobFolder, AgentInstruction)>>,
}

impl InstructionSlot {
    /// Replaces what was there; the instruction loop looks at it at once.
    pub fn put(&self, folder: JobFolder, instruction: AgentInstruction) {
        self.last.send_replace(Some((folder, instruction)));
    }
}

/// Passes instructions on for ever. GoCD: looks every 10 s, so that a cancel takes up to 15 s; here
/// the ping wakes this loop, and the regular look only makes sure.
pub async fn pass_instructions_on(
    slot: &InstructionSlot,
    lifecycle: &Lifecycle,
    settings: &Settings,
) {
    let mut last = slot.last.subscribe();
    let mut tick = interval_at(
        Instant::now() + settings.instruction_delay,
        settings
            .instruction_interval
            .max(std::time::Duration::from_millis(1)),
    );
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = last.changed() => if changed.is_err() { return },
        }
        let Some((folder, instruction)) = last.borrow_and_update().clone() else {
            continue;
        };
        // Whether it was passed on before, and whether that job still runs, the state knows.
        lifecycle.apply(Event::Instructed {
            folder,
            instruction,
        });
    }
}
