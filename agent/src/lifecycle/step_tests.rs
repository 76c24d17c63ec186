use journeyman_protocol::{
    agent::RuntimeStatus,
    job::JobIdentifier,
    remoting::AgentInstruction::{self, Cancel, KillRunningTasks},
    work::BuildWork,
};
use pretty_assertions::assert_eq;

use super::*;

fn job(id: i64) -> JobIdentifier {
    JobIdentifier {
        pipeline_name: "web".into(),
        pipeline_counter: 42,
        pipeline_label: "1.0.42".into(),
        stage_name: "build".into(),
        stage_counter: "1".into(),
        build_name: "unit".into(),
        build_id: id,
        ..JobIdentifier::default()
    }
}

fn folder(id: i64) -> JobFolder {
    JobFolder::new(format!("jobs/{id}-00000000"))
}

fn run(id: i64) -> Run {
    Run::new(folder(id), job(id))
}

fn work_received(id: i64) -> Event {
    let mut work = BuildWork::default();
    work.assignment.job_identifier = job(id);
    Event::WorkReceived {
        folder: folder(id),
        work: Box::new(work),
    }
}

fn at_phase(id: i64, phase: Phase) -> Event {
    progress_of(id, phase, RuntimeStatus::Building)
}

fn progress_of(id: i64, phase: Phase, runtime_status: RuntimeStatus) -> Event {
    Event::RunnerProgress {
        folder: folder(id),
        phase,
        runtime_status,
    }
}

fn instruction(id: i64, instruction: AgentInstruction) -> Event {
    Event::Instructed {
        folder: folder(id),
        instruction,
    }
}

fn ended(id: i64) -> Event {
    Event::JobEnded {
        folder: folder(id),
        next: None,
    }
}

/// Applies events one after the other; gives the names of the states and of the effects.
#[track_caller]
fn walk(mut state: State, events: Vec<Event>) -> (State, Vec<&'static str>, Vec<&'static str>) {
    let (mut states, mut effects) = (vec![], vec![]);
    for event in events {
        let step = state.step(event).unwrap();
        states.push(step.state.name());
        effects.extend(step.effects.iter().map(effect_name));
        state = step.state;
    }
    (state, states, effects)
}

fn effect_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Register => "Register",
        Effect::GetCookie { .. } => "GetCookie",
        Effect::StartRunner { .. } => "StartRunner",
        Effect::RefuseJob { .. } => "RefuseJob",
        Effect::TakeOver(_) => "TakeOver",
        Effect::Instruct {
            instruction: Cancel,
            ..
        } => "Cancel",
        Effect::Instruct { .. } => "Kill",
        Effect::Exit => "Exit",
    }
}

#[track_caller]
fn refused(state: State, event: Event) {
    let before = state.clone();
    let error = state.step(event).unwrap_err();
    assert_eq!(*error.state, before, "a refused event changes nothing");
}

#[test]
fn from_nothing_through_a_job_to_idle() {
    let (state, states, effects) = walk(
        State::Unregistered,
        vec![
            Event::ApprovalPending,
            Event::ApprovalPending,
            Event::Registered,
            Event::CookieReceived,
            Event::NoWork,
            Event::WorkDenied,
            Event::NoWork,
            work_received(7),
            at_phase(7, Phase::Preparing),
            at_phase(7, Phase::Building),
            at_phase(7, Phase::Completing),
            at_phase(7, Phase::Reporting),
            at_phase(7, Phase::Done),
            ended(7),
        ],
    );
    assert_eq!(state, State::Idle);
    assert_eq!(
        states,
        [
            "Pending",
            "Pending",
            "Registered",
            "Idle",
            "Idle",
            "Disabled",
            "Idle",
            "Preparing",
            "Preparing",
            "Building",
            "Completing",
            "Completing",
            "Completing",
            "Idle",
        ]
    );
    assert_eq!(effects, ["GetCookie", "StartRunner"]);
}

#[test]
fn pings_say_what_the_state_is() {
    let busy = State::Building(run(7));
    assert_eq!(busy.runtime_status(), RuntimeStatus::Building);
    assert_eq!(busy.building_info().build_locator, "web/42/build/1/unit");
    assert_eq!(
        busy.building_info().building_info,
        "web/1.0.42/build/1/unit"
    );
    assert_eq!(
        State::Cancelled(run(7)).runtime_status(),
        RuntimeStatus::Cancelled
    );
    for idle in [State::Idle, State::Disabled] {
        assert_eq!(idle.runtime_status(), RuntimeStatus::Idle);
        assert_eq!(idle.building_info(), Default::default());
        assert!(idle.may_ping() && idle.may_ask_for_work());
    }
    for unknown in [State::Unregistered, State::Pending, State::Registered] {
        assert!(!unknown.may_ping() && !unknown.may_ask_for_work());
    }
}

#[test]
fn no_work_is_asked_for_while_a_job_is_not_over() {
    for state in [
        State::Preparing(run(7)),
        State::Building(run(7)),
        State::Completing(run(7)),
        State::Cancelled(run(7)),
        State::Stopping(finish(run(7))),
        State::Stopping(Remaining::Cancel(run(7))),
        State::Stopping(Remaining::Answer),
        State::Stopped,
    ] {
        assert!(!state.may_ask_for_work(), "{}", state.name());
    }
    refused(State::Building(run(7)), work_received(8));
    refused(State::Stopped, work_received(8));
}

#[test]
fn each_instruction_is_passed_on_once_and_to_its_own_job_only() {
    let (state, states, effects) = walk(
        State::Building(run(7)),
        vec![
            instruction(6, Cancel),
            instruction(7, AgentInstruction::None),
            instruction(7, Cancel),
            instruction(7, Cancel),
            instruction(7, KillRunningTasks),
            instruction(7, KillRunningTasks),
            at_phase(7, Phase::Completing),
            ended(7),
            instruction(7, Cancel),
        ],
    );
    assert_eq!(state, State::Idle);
    assert_eq!(states[..3], ["Building", "Building", "Cancelled"]);
    assert_eq!(states[6..], ["Cancelled", "Idle", "Idle"]);
    assert_eq!(effects, ["Cancel", "Kill"]);
}

#[test]
fn a_job_never_goes_back_and_only_its_own_runner_moves_it() {
    refused(State::Building(run(7)), at_phase(7, Phase::Preparing));
    refused(State::Completing(run(7)), at_phase(7, Phase::Building));
    refused(State::Building(run(7)), at_phase(8, Phase::Completing));
    refused(State::Building(run(7)), ended(8));
    refused(State::Idle, ended(7));
    let (state, ..) = walk(
        State::Preparing(run(7)),
        vec![progress_of(7, Phase::Building, RuntimeStatus::Cancelled)],
    );
    assert_eq!(state, State::Cancelled(run(7)));
}

#[test]
fn the_first_request_to_stop_lets_the_job_finish() {
    let (state, states, effects) = walk(
        State::Building(run(7)),
        vec![
            Event::StopRequested,
            at_phase(7, Phase::Completing),
            Event::AskingEnded,
            ended(7),
        ],
    );
    assert_eq!(state, State::Stopped);
    assert_eq!(states[..3], ["Stopping"; 3]);
    assert_eq!(effects, ["Exit"]);
}

#[test]
fn the_second_one_cancels_it_and_the_third_leaves_it() {
    let (state, _, effects) = walk(
        State::Building(run(7)),
        vec![Event::StopRequested, Event::StopRequested],
    );
    assert_eq!(effects, ["Cancel"]);
    assert_eq!(state.runtime_status(), RuntimeStatus::Cancelled);
    let (_, _, effects) = walk(state.clone(), vec![ended(7)]);
    assert_eq!(effects, ["Exit"]);
    let (state, _, effects) = walk(state, vec![Event::StopRequested]);
    assert_eq!(state, State::Stopped);
    assert_eq!(effects, ["Exit"]);
    refused(State::Stopped, Event::StopRequested);
}

#[test]
fn a_job_the_server_cancelled_counts_the_requests_to_stop_too() {
    let (state, _, effects) = walk(
        State::Building(run(7)),
        vec![instruction(7, Cancel), Event::StopRequested],
    );
    assert_eq!(state.runtime_status(), RuntimeStatus::Cancelled);
    assert_eq!(effects, ["Cancel"]);
    let (state, _, effects) = walk(state, vec![Event::StopRequested]);
    assert!(effects.is_empty(), "it was told already");
    assert_eq!(state.name(), "Stopping");
    let (_, _, effects) = walk(state, vec![Event::StopRequested]);
    assert_eq!(effects, ["Exit"]);
}

#[test]
fn a_stopping_agent_runs_the_job_it_still_gets() {
    let (state, _, effects) = walk(
        State::Idle,
        vec![Event::StopRequested, work_received(7), Event::AskingEnded],
    );
    assert_eq!(state, State::Stopping(finish(run(7))));
    assert_eq!(effects, ["StartRunner"]);
    let (_, _, effects) = walk(
        State::Idle,
        vec![Event::StopRequested, Event::NoWork, Event::AskingEnded],
    );
    assert_eq!(effects, ["Exit"]);
    let (_, _, effects) = walk(State::Pending, vec![Event::StopRequested]);
    assert_eq!(effects, ["Exit"]);
}

#[test]
fn a_lost_registration_is_renewed_beside_a_running_job() {
    let (state, states, effects) = walk(
        State::Building(run(7)),
        vec![
            Event::RegistrationLost,
            Event::ApprovalPending,
            Event::Registered,
            Event::CookieReceived,
            ended(7),
        ],
    );
    assert_eq!(state, State::Idle);
    assert_eq!(states[..4], ["Building"; 4]);
    assert_eq!(effects, ["Register", "GetCookie"]);
    let (_, states, effects) = walk(
        State::Idle,
        vec![Event::RegistrationLost, Event::RegistrationLost],
    );
    assert_eq!(states, ["Unregistered", "Unregistered"]);
    assert_eq!(effects, ["Register"]);
}

#[test]
fn a_rejected_cookie_keeps_the_agent_from_work() {
    let (state, states, effects) = walk(
        State::Idle,
        vec![
            Event::CookieRejected,
            Event::CookieRejected,
            Event::NoWork,
            Event::CookieReceived,
        ],
    );
    assert_eq!(state, State::Idle);
    assert_eq!(states[..3], ["Registered"; 3]);
    assert_eq!(effects, ["GetCookie"]);
    let (state, _, effects) = walk(State::Building(run(7)), vec![Event::CookieRejected]);
    assert_eq!(state.name(), "Building");
    assert_eq!(effects, ["GetCookie"]);
}

#[test]
fn jobs_of_an_earlier_agent_come_before_new_work() {
    let (state, states, effects) = walk(
        State::Registered,
        vec![
            Event::JobFound(Box::new(run(5))),
            Event::JobEnded {
                folder: folder(5),
                next: Some(Box::new(run(6))),
            },
            ended(6),
        ],
    );
    assert_eq!(state, State::Idle);
    assert_eq!(states, ["Preparing", "Preparing", "Idle"]);
    assert_eq!(effects, ["GetCookie", "TakeOver", "TakeOver"]);
    refused(State::Building(run(7)), Event::JobFound(Box::new(run(5))));
}

#[test]
fn a_job_that_cannot_be_run_keeps_the_agent_busy_until_it_is_reported() {
    let (state, _, effects) = walk(
        State::Idle,
        vec![
            Event::UnknownWorkReceived {
                folder: folder(7),
                job: Box::new(job(7)),
                reason: "unknown kind".into(),
            },
            at_phase(7, Phase::Completing),
            ended(7),
        ],
    );
    assert_eq!(state, State::Idle);
    assert_eq!(effects, ["RefuseJob"]);
}
