//! What the one who looks at a page may do: nobody is shown a button that will refuse them. For
//! templates (`{% if crate::pages::may::operate(group) %}`); what a request may do is decided by
//! [`users::guard`](crate::users::guard()) alone.

use crate::scheduling;
use crate::scheduling::run::Run;
use crate::users::{Role, forms};

/// Trigger, cancel, pause and the like in a group of pipelines.
pub(crate) fn operate(group: &str) -> bool {
    let role = forms::viewing(|actor| actor.rights.in_group(group));
    role.flatten() >= Some(Role::Operate)
}

/// Run a stage of a run, run its jobs again, and cancel it: its `approval` may name who.
pub(crate) fn run_stage(run: &Run, stage: &str, group: &str) -> bool {
    let definition = run.definition.stage(stage);
    let named = definition.is_some_and(|(_, stage)| {
        let named = |actor: &_| scheduling::may_run(&stage.operators, group, actor);
        forms::viewing(named).unwrap_or_default()
    });
    named && operate(group)
}

/// Change agents, repositories, releases and users.
pub(crate) fn administer() -> bool {
    everywhere(Role::Admin)
}

/// Whether the role is held in all groups.
pub(crate) fn everywhere(role: Role) -> bool {
    let held = forms::viewing(|actor| actor.rights.everywhere());
    held.flatten() >= Some(role)
}
