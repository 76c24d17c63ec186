use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use journeyman_host::{lifeline::Lifeline, properties::Properties};
use journeyman_protocol::{launcher::Contact, remoting::AgentInstruction, secret::Secret};
use pretty_assertions::assert_eq;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
};

use super::*;
use crate::{
    fake_server::{FakeServer, UUID, eventually, quick, registered_session},
    lifecycle::{Effect, Event, Lifecycle, Run, State},
    registration::{CookieHistory, obtain_cookie},
    remoting::Session,
    settings::Settings,
};

const BUILD_WORK: &str = include_str!("../../../protocol/tests/vectors/BuildWork-no-tasks.json");
const NO_WORK: &str = r#"{"type":"NoWork"}"#;

/// An agent in `state` whose loops run, but for those that a test does not want.
struct Agent {
    _folder: tempfile::TempDir,
    session: Arc<Session>,
    lifecycle: Lifecycle,
    effects: UnboundedReceiver<Effect>,
    tasks: Vec<JoinHandle<()>>,
}

impl Agent {
    async fn in_state(server: &FakeServer, state: State) -> Self {
        Self::over(server, state, None).await
    }

    /// One with a launcher that listens.
    async fn heard(server: &FakeServer, state: State) -> (UnixStream, Self) {
        let (launcher, end) = UnixStream::pair().unwrap();
        let end = OwnedFd::from(end.into_std().unwrap());
        let lifeline = Arc::new(Lifeline::over(end).unwrap());
        (launcher, Self::over(server, state, Some(lifeline)).await)
    }

    async fn over(server: &FakeServer, state: State, lifeline: Option<Arc<Lifeline>>) -> Self {
        let (folder, session) = registered_session(&server.url).await;
        let session = session.heard_on(lifeline);
        let (lifecycle, effects) = Lifecycle::new(state);
        Self {
            _folder: folder,
            session: Arc::new(session),
            lifecycle,
            effects,
            tasks: vec![],
        }
    }

    fn asks_for_work(&mut self) -> &mut Self {
        let (session, lifecycle) = (self.session.clone(), self.lifecycle.clone());
        self.tasks.push(tokio::spawn(async move {
            ask_for_work(&session, &lifecycle, &quick()).await;
        }));
        self
    }

    fn pings(&mut self) -> &mut Self {
        self.pings_every(quick().ping_interval)
    }

    fn pings_every(&mut self, ping_interval: Duration) -> &mut Self {
        let settings = Settings {
            ping_interval,
            ..quick()
        };
        let slot = Arc::new(InstructionSlot::default());
        let (session, lifecycle) = (self.session.clone(), self.lifecycle.clone());
        let to = slot.clone();
        self.tasks.push(tokio::spawn(async move {
            ping(&session, &lifecycle, &settings, &to).await;
        }));
        let lifecycle = self.lifecycle.clone();
        self.tasks.push(tokio::spawn(async move {
            pass_instructions_on(&slot, &lifecycle, &quick()).await;
        }));
        self
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn a_run() -> Run {
    Run::new(
        crate::job::folder::JobFolder::new("jobs/7-00000000"),
        Default::default(),
    )
}

#[tokio::test]
async fn calls_have_the_form_of_the_java_agent() {
    let server = FakeServer::start().await;
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.asks_for_work();
    let call = server.wait_for_calls("get_work", 1).await.remove(0);
    assert_eq!(call.path, "/go/remoting/api/agent/get_work");
    let names: Vec<&str> = call
        .headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| ["accept", "x-agent-guid", "authorization", "content-type"].contains(name))
        .collect();
    assert_eq!(
        names,
        ["accept", "x-agent-guid", "authorization", "content-type"]
    );
    assert_eq!(call.headers["accept"], "application/vnd.go.cd+json");
    assert_eq!(call.headers["x-agent-guid"], UUID);
    assert_eq!(call.headers["authorization"], "token-0");
    assert_eq!(
        call.headers["content-type"],
        "application/json; charset=UTF-8"
    );
    assert!(
        call.body.starts_with(
            r#"{"type":"GetWorkRequest","agentRuntimeInfo":{"type":"AgentRuntimeInfo","identifier":{"hostName":"build-07""#
        ),
        "{}",
        call.body
    );
    assert!(call.body.contains(r#""runtimeStatus":"Idle""#));
    assert!(call.body.contains(r#""cookie":"cookie-0""#));
}

#[tokio::test]
async fn our_own_server_holds_the_ping_of_a_running_job_until_that_job_ends() {
    let server = FakeServer::start().await;
    server.be_journeyman(Duration::from_secs(600));
    let run = a_run();
    let mut agent = Agent::in_state(&server, State::Building(run.clone())).await;
    agent.pings_every(Duration::from_secs(1));
    let calls = server.wait_for_calls("ping", 2).await;
    // Whose server it is, the first answer tells.
    assert!(!calls[0].headers.contains_key("prefer"));
    assert_eq!(calls[1].headers["prefer"], "wait=1");
    agent.lifecycle.apply(Event::JobEnded {
        folder: run.folder,
        next: None,
    });
    let third = server.wait_for_calls("ping", 3).await.remove(2);
    assert!(!third.headers.contains_key("prefer"));
    assert!(
        third.body.contains(r#""runtimeStatus":"Idle""#),
        "{}",
        third.body
    );
}

#[tokio::test]
async fn a_job_that_begins_is_not_kept_waiting_for_a_ping_that_is_held() {
    let server = FakeServer::start().await;
    server.be_journeyman(Duration::from_secs(600));
    let mut agent = Agent::in_state(&server, State::Idle).await;
    // The next one would come after this test has given up.
    agent.pings_every(Duration::from_secs(60));
    server.wait_for_calls("ping", 1).await;
    agent.lifecycle.apply(Event::JobFound(Box::new(a_run())));
    let second = server.wait_for_calls("ping", 2).await.remove(1);
    assert_eq!(second.headers["prefer"], "wait=60");
}

#[tokio::test]
async fn an_idle_agent_announces_itself_and_collects_soon_after() {
    let server = FakeServer::start().await;
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.asks_for_work();
    let calls = server.wait_for_calls("get_work", 6).await;
    let gaps: Vec<Duration> = calls.windows(2).map(|two| two[1].at - two[0].at).collect();
    let settings = quick();
    let mut pause = settings.work_pauses.first;
    for (index, gap) in gaps.iter().enumerate() {
        if index % 2 == 0 {
            assert!(*gap >= settings.collect_after, "{gaps:?}");
        } else {
            assert!(*gap >= pause, "{gaps:?}");
            pause = pause.mul_f64(settings.work_pauses.factor);
        }
        assert!(!calls[index].headers.contains_key("prefer"));
    }
}

#[tokio::test]
async fn nothing_is_asked_while_a_job_is_not_over() {
    let server = FakeServer::start().await;
    server.answers(
        "get_work",
        &[(200, NO_WORK), (200, BUILD_WORK), (200, NO_WORK)],
    );
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.asks_for_work().pings();
    let Some(Effect::StartRunner { folder, .. }) = agent.effects.recv().await else {
        panic!("no runner was wanted");
    };
    // Pings go on meanwhile, and say so.
    let before = server.calls("ping").len();
    let pings = server.wait_for_calls("ping", before + 10).await;
    assert!(
        pings[before + 9]
            .body
            .contains(r#""runtimeStatus":"Building""#)
    );
    assert_eq!(server.calls("get_work").len(), 2);
    agent
        .lifecycle
        .apply(Event::JobEnded { folder, next: None });
    server.wait_for_calls("get_work", 3).await;
}

#[tokio::test]
async fn our_own_server_holds_the_call() {
    let server = FakeServer::start().await;
    server.be_journeyman(Duration::from_millis(1100));
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.asks_for_work();
    let calls = server.wait_for_calls("get_work", 3).await;
    assert!(
        !calls[0].headers.contains_key("prefer"),
        "it is not known yet"
    );
    assert_eq!(calls[1].headers["prefer"], "wait=20");
    assert!(calls[1].at - calls[0].at < Duration::from_secs(1));
    let held = calls[2].at - calls[1].at;
    assert!(held < Duration::from_millis(2000), "{held:?}");
}

#[tokio::test]
async fn the_first_answer_is_not_held_by_a_server_that_is_known() {
    let server = FakeServer::start().await;
    server.be_journeyman(Duration::from_millis(1100));
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.pings();
    server.wait_for_calls("ping", 2).await;
    agent.asks_for_work();
    let calls = server.wait_for_calls("get_work", 2).await;
    assert!(!calls[0].headers.contains_key("prefer"));
    assert_eq!(calls[1].headers["prefer"], "wait=20");
    assert!(calls[1].at - calls[0].at < Duration::from_secs(1));
}

#[tokio::test]
async fn properties_of_a_gocd_server_are_set_before_work_is_asked_for() {
    let server = FakeServer::start().await;
    server.sets_properties("test.of.loops=a%20b test.of.loops.too=1");
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.asks_for_work();
    server.wait_for_calls("get_work", 1).await;
    let asked = server.calls("latest-agent.status");
    assert_eq!(asked[0].path, "/go/admin/latest-agent.status");
    assert!(!asked[0].headers.contains_key("authorization"));
    let value = |name: &str| Properties::of_process().get(name).map(str::to_owned);
    assert_eq!(value("test.of.loops").as_deref(), Some("a b"));
    // Later ones count, earlier ones stay, and a broken header changes nothing.
    for text in ["test.of.loops=2", "broken"] {
        server.sets_properties(text);
        let seen = server.calls("latest-agent.status").len();
        server.wait_for_calls("latest-agent.status", seen + 2).await;
        assert_eq!(value("test.of.loops").as_deref(), Some("2"));
        assert_eq!(value("test.of.loops.too").as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn a_denied_agent_is_disabled_until_it_gets_another_answer() {
    let server = FakeServer::start().await;
    let denied = r#"{"type":"DeniedAgentWork","uuid":"6f1c6a52"}"#;
    server.answers("get_work", &[(200, denied), (500, "?"), (200, NO_WORK)]);
    let mut agent = Agent::in_state(&server, State::Idle).await;
    let mut states = agent.lifecycle.watch();
    agent.asks_for_work();
    states.wait_for(|s| *s == State::Disabled).await.unwrap();
    states.wait_for(|s| *s == State::Idle).await.unwrap();
}

#[tokio::test]
async fn an_agent_the_server_forgot_registers_again() {
    let unregistered = r#"{"type":"UnregisteredAgentWork","message":"not registered","uuid":"x"}"#;
    for answer in [(403, ""), (200, unregistered)] {
        let server = FakeServer::start().await;
        server.answers("get_work", &[answer]);
        let mut agent = Agent::in_state(&server, State::Idle).await;
        agent.asks_for_work();
        assert_eq!(agent.effects.recv().await, Some(Effect::Register));
        assert_eq!(agent.lifecycle.state(), State::Unregistered);
    }
}

#[tokio::test]
async fn work_of_an_unknown_kind_fails_its_job_only() {
    let broken = BUILD_WORK.replace("\"builders\":[]", "\"builders\":7");
    let unknown = BUILD_WORK.replacen("\"BuildWork\"", "\"CloudWork\"", 1);
    assert!(broken != BUILD_WORK && unknown != BUILD_WORK);
    for (work, hint) in [(broken, "cannot read"), (unknown, "`CloudWork`")] {
        let server = FakeServer::start().await;
        server.answers("get_work", &[(200, &work), (200, NO_WORK)]);
        let mut agent = Agent::in_state(&server, State::Idle).await;
        agent.asks_for_work();
        let Some(Effect::RefuseJob { run, reason }) = agent.effects.recv().await else {
            panic!("the job was not refused");
        };
        assert!(reason.contains(hint), "{reason}");
        assert!(!run.job.pipeline_name.is_empty());
        agent.lifecycle.apply(Event::JobEnded {
            folder: run.folder,
            next: None,
        });
        server.wait_for_calls("get_work", 2).await;
    }
}

#[tokio::test]
async fn a_cancel_reaches_its_job_at_once_and_once() {
    let server = FakeServer::start().await;
    server.answers("ping", &[(200, "\"NONE\""), (200, "\"CANCEL\"")]);
    let mut agent = Agent::in_state(&server, State::Building(a_run())).await;
    agent.pings();
    let cancel = Effect::Instruct {
        folder: a_run().folder,
        instruction: AgentInstruction::Cancel,
    };
    assert_eq!(agent.effects.recv().await, Some(cancel));
    let pings = server.wait_for_calls("ping", 8).await;
    assert!(pings[7].body.contains(r#""runtimeStatus":"Cancelled""#));
    assert!(agent.effects.is_empty());
}

#[tokio::test]
async fn a_rejected_cookie_is_replaced() {
    let server = FakeServer::start().await;
    let rejected = r#"{"error":"Agent [build-07] has invalid cookie"}"#;
    server.answers("ping", &[(500, rejected), (200, "\"NONE\"")]);
    server.answers("get_cookie", &[(200, "cookie-9")]);
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.pings();
    let effect = Effect::GetCookie {
        after_rejection: true,
    };
    assert_eq!(agent.effects.recv().await, Some(effect));
    assert_eq!(agent.lifecycle.state(), State::Registered);
    let mut history = CookieHistory::default();
    obtain_cookie(
        &agent.session,
        &agent.lifecycle,
        &quick(),
        Some(&mut history),
    )
    .await;
    assert_eq!(agent.session.cookie(), Some(Secret::from("cookie-9")));
    let pings = server.wait_for_calls("ping", 2).await;
    assert!(pings[1].body.contains(r#""cookie":"cookie-9""#));
    assert_eq!(agent.lifecycle.state(), State::Idle);
}

#[tokio::test]
async fn a_stopping_agent_asks_no_more() {
    let server = FakeServer::start().await;
    let mut agent = Agent::in_state(&server, State::Idle).await;
    agent.asks_for_work();
    server.wait_for_calls("get_work", 2).await;
    agent.lifecycle.apply(Event::StopRequested);
    assert_eq!(agent.effects.recv().await, Some(Effect::Exit));
    eventually(|| agent.tasks[0].is_finished().then_some(())).await;
}

#[tokio::test]
async fn the_launcher_hears_how_each_call_went() {
    let server = FakeServer::start().await;
    server.answers("get_work", &[(429, ""), (200, NO_WORK), (200, BUILD_WORK)]);
    server.answers("ping", &[(502, ""), (200, "\"NONE\"")]);
    let (launcher, mut agent) = Agent::heard(&server, State::Idle).await;
    let mut words = BufReader::new(launcher).lines();
    let mut wait_for = async |wanted: Contact| {
        loop {
            let word = words.next_line().await.unwrap().unwrap();
            if Contact::parse(&word) == Some(wanted) {
                return;
            }
        }
    };
    agent.asks_for_work();
    wait_for(Contact::Busy).await;
    wait_for(Contact::Asked).await;
    agent.pings();
    wait_for(Contact::Away).await;
    wait_for(Contact::Pinged).await;
    // It has the job by now, or will have.
    wait_for(Contact::Working).await;
    drop(server);
    wait_for(Contact::Away).await;
}
