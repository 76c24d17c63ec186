//! Against a server as strict as GoCD's: what it forgets in the middle of a job, and what restarts
//! and upgrades of an agent must not make it believe.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use journeyman_tests::{
    chain::Chain,
    console::assert_counts_to,
    fake_server::{FakeServer, TOKEN, build_work, shell},
    patience::{wait_for, wait_until},
    processes::{self, Role},
    releases::Releases,
    repo::Repo,
    scene::Scene,
};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

const LAST: u64 = 40;

/// Pings so rare that a job's runner finds out first what the server has forgotten.
const RARE_PINGS: &str = "-Dagent.ping.delay=100 -Dagent.ping.interval=3000 \
    -Dagent.get.work.delay=100 -Dagent.get.work.interval=500";

/// An agent as an operator installs it for a GoCD server: with its package.
fn install<'a>(scene: &'a Scene, server: &FakeServer) -> Chain<'a> {
    Chain::install(scene, "agent", &server.url).with_package()
}

/// A job whose task counts to [`LAST`], but waits in the middle until it is let go on. Its artifact
/// is the list of numbers.
struct Job {
    go: PathBuf,
}

impl Job {
    fn given_by(server: &FakeServer, scene: &Scene) -> Self {
        let go = scene.path().join("go");
        let half = LAST / 2;
        let script = format!(
            "i=0; while [ $i -lt {LAST} ]; do i=$((i+1)); echo line $i; echo $i >> list; \
             [ $i != {half} ] || until [ -e {} ]; do sleep 0.02; done; done",
            go.display()
        );
        let mut work = build_work("unit", 7, &json!([shell(&script)]));
        work["assignment"]["artifactPlans"] = json!([{
            "testArtifactPlansForMerging": [], "buildId": 7, "artifactPlanType": "file",
            "src": "list", "dest": "", "id": 1
        }]);
        server.give_work(work);
        Self { go }
    }

    fn wait_for_half(&self, server: &FakeServer) {
        let line = format!(" line {}\n", LAST / 2);
        wait_until("half of the lines are on the server", || {
            server.console().contains(&line)
        });
    }

    fn let_go_on(&self) {
        fs::write(&self.go, "").unwrap();
    }
}

/// The job has passed, once, with everything it said and made, and the server never took it for
/// lost.
fn assert_passed_whole(server: &FakeServer, chain: &Chain) {
    wait_until("the job has been reported", || !server.results().is_empty());
    assert_eq!(server.results(), ["Passed"], "{}", chain.said());
    assert_counts_to(&server.console(), LAST);
    assert_eq!(server.told().uploads.len(), 1);
    // The next call for work comes from an agent without a job.
    let asked = server.calls("get_work").len();
    wait_until("the agent asks for work again", || {
        server.calls("get_work").len() > asked
    });
    let told = server.told();
    assert_eq!(told.lost, Vec::<u64>::new());
    assert!(told.work.is_empty());
    let list = chain.folder().join("pipelines/web/list");
    let lines = fs::read_to_string(list).unwrap().lines().count() as u64;
    assert_eq!(lines, LAST, "the task ran once");
}

fn cookies_of(calls: &[Value]) -> Vec<String> {
    let mut cookies: Vec<String> = calls
        .iter()
        .map(|call| call["agentRuntimeInfo"]["cookie"].to_string())
        .collect();
    cookies.dedup();
    cookies
}

/// Every call about the job had the one cookie the server gave out.
fn assert_one_cookie(server: &FakeServer) {
    assert_eq!(server.told().cookies, 1);
    for action in [
        "ping",
        "report_current_status",
        "report_completing",
        "report_completed",
    ] {
        assert_eq!(
            cookies_of(&server.calls(action)),
            ["\"cookie-1\""],
            "{action}"
        );
    }
}

// --- what the server forgets

#[test]
fn a_cookie_lost_in_the_middle_of_a_job_costs_nothing() {
    let scene = Scene::new("lost-cookie");
    let server = FakeServer::start();
    let job = Job::given_by(&server, &scene);
    let chain = install(&scene, &server)
        .with_environment("AGENT_STARTUP_ARGS", RARE_PINGS)
        .started();
    job.wait_for_half(&server);
    server.take_cookie_away();
    // The runner's next report comes with the lost cookie.
    job.let_go_on();
    assert_passed_whole(&server, &chain);
    assert_eq!(server.told().cookies, 2);
    let log = chain.log("go-agent-job.log");
    assert!(log.contains("does not know this agent any more"), "{log}");
}

#[test]
fn a_registration_lost_in_the_middle_of_a_job_costs_nothing() {
    let scene = Scene::new("lost-registration");
    let server = FakeServer::start();
    let job = Job::given_by(&server, &scene);
    let chain = install(&scene, &server)
        .with_environment("AGENT_STARTUP_ARGS", RARE_PINGS)
        .started();
    job.wait_for_half(&server);
    server.forget_agent();
    // Console lines, reports and uploads are all refused now.
    job.let_go_on();
    assert_passed_whole(&server, &chain);
    assert_eq!(server.told().registrations.len(), 2);
}

#[test]
fn an_idle_agent_gets_cookie_and_registration_again() {
    let scene = Scene::new("lost-idle");
    let server = FakeServer::start();
    let chain = install(&scene, &server).started();
    wait_until("the agent asks for work", || {
        server.told().first_get_work.is_some()
    });
    server.take_cookie_away();
    wait_until("the agent has another cookie", || {
        server.told().cookies == 2
    });
    server.forget_agent();
    wait_until("the agent has registered again", || {
        server.told().registrations.len() == 2
    });
    let job = Job::given_by(&server, &scene);
    job.let_go_on();
    assert_passed_whole(&server, &chain);
}

#[test]
fn the_status_api_says_whether_the_server_knows_the_agent() {
    let scene = Scene::new("status-api");
    let server = FakeServer::start();
    let chain = install(&scene, &server)
        .with_environment(
            "AGENT_STARTUP_ARGS",
            "-Dagent.ping.delay=10 -Dagent.ping.interval=200 -Dgo.agent.status.api.bind.port=0",
        )
        .started();
    let address = wait_for("the agent says where its status API is", || {
        let log = chain.log("go-agent.log");
        let (_, rest) = log.split_once("Status API address=")?;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    let ask = || -> String {
        let mut stream = TcpStream::connect(&address).unwrap();
        let path = "/health/latest/isConnectedToServer";
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    wait_until("the agent is connected", || ask().ends_with("OK!"));
    let no = [500; 1000].into();
    server.told().refuse.insert("/ping".to_owned(), no);
    wait_until("the agent is not connected", || {
        let answer = ask();
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("Bad!")
    });
}

// --- what it sets

#[test]
fn properties_of_the_server_count_from_the_start_of_the_agent() {
    let scene = Scene::new("extra-properties");
    let server = FakeServer::start();
    let properties = "go.agent.status.api.enabled=false a.b=c%20d";
    server.told().extra_properties = Some(STANDARD.encode(properties));
    server.give_work(build_work(
        "unit",
        7,
        &json!([shell("echo \"seen $GOCD_AGENT_JVM_OPTS\"")]),
    ));
    let chain = install(&scene, &server)
        .with_environment("GOCD_AGENT_JVM_OPTS", "-Dgo.agent.status.api.enabled=true")
        .started();
    wait_until("the job has been reported", || !server.results().is_empty());
    assert!(chain.said().contains("The status API is switched off"));
    let console = server.console();
    assert!(console.contains(" -Da.b=c%20d"), "{console}");
}

#[test]
fn properties_the_server_sets_later_reach_the_next_job() {
    let scene = Scene::new("toggle");
    let server = FakeServer::start();
    let repo = Repo::new(&scene, "web.repo", "");
    repo.commit(".gitignore", "*.log\n");
    let job = |name: &str, id: u64| {
        let mut work = build_work(name, id, &json!([shell("ls; touch kept.log")]));
        work["assignment"]["materialRevisions"]["revisions"] = json!([{
            "material": {
                "type": "GitMaterial", "materialType": "GitMaterial", "id": -1,
                "url": { "url": repo.url() }, "refSpecOrBranch": "master", "shallowClone": false,
                "autoUpdate": true, "invertFilter": false
            },
            "changed": true,
            "modifications": [{
                "id": 1, "revision": repo.revision(), "modifiedTime": "2026-08-01T10:11:12Z",
                "files": []
            }]
        }]);
        work
    };
    server.give_work(job("first", 1));
    server.give_work(job("second", 2));
    let chain = install(&scene, &server).started();
    let wait_for_results = |count| {
        wait_until("the jobs have been reported", || {
            server.results().len() == count
        });
    };
    wait_for_results(2);
    // Git removes what is ignored, until the server says otherwise.
    assert!(!server.console().contains(" kept.log\n"));
    let properties = "toggle.agent.git.clean.keep.ignored.files=Y";
    server.told().extra_properties = Some(STANDARD.encode(properties));
    server.give_work(job("third", 3));
    wait_for_results(3);
    assert_eq!(server.results(), ["Passed"; 3], "{}", server.console());
    assert!(server.console().contains(" kept.log\n"), "{}", chain.said());
}

#[test]
fn an_elastic_agent_of_gocds_images_registers_once_and_stays_elastic() {
    let scene = Scene::new("elastic");
    let server = FakeServer::start();
    server.told().one_time_keys.push("4b1e-once".to_owned());
    let job = Job::given_by(&server, &scene);
    let mut chain = Chain::install(&scene, "agent", "http://127.0.0.1:1/go")
        .with_package()
        .without_arguments()
        .with_environment("GO_SERVER_URL", "http://127.0.0.1:1/go")
        .with_environment("GO_EA_SERVER_URL", &server.url)
        .with_environment("GO_EA_AUTO_REGISTER_KEY", "4b1e-once")
        .with_environment("GO_EA_AUTO_REGISTER_ENVIRONMENT", "prod")
        .with_environment("GO_EA_AUTO_REGISTER_ELASTIC_AGENT_ID", "pod-1")
        .with_environment("GO_EA_AUTO_REGISTER_ELASTIC_PLUGIN_ID", "cd.go.contrib.k8s")
        .with_environment("AGENT_AUTO_REGISTER_HOSTNAME", "pod one")
        .started();
    job.wait_for_half(&server);
    // A container that is started again has the same environment.
    chain.kill_nine(Role::Bootstrapper);
    wait_until("only the runner is left of the chain", || {
        chain.process(Role::Launcher).is_none() && chain.process(Role::Agent).is_none()
    });
    chain.start();
    wait_until("another agent follows the job", || {
        chain.said().contains("taking it over")
    });
    job.let_go_on();
    assert_passed_whole(&server, &chain);

    let registrations = server.told().registrations.clone();
    assert_eq!(registrations.len(), 1);
    for (field, value) in [
        ("agentAutoRegisterKey", "4b1e-once"),
        ("agentAutoRegisterEnvironments", "prod"),
        ("agentAutoRegisterResources", ""),
        ("agentAutoRegisterHostname", "pod one"),
        ("elasticAgentId", "pod-1"),
        ("elasticPluginId", "cd.go.contrib.k8s"),
    ] {
        assert_eq!(registrations[0][field], value, "{field}");
    }
    let calls = server.told().calls.clone();
    for (action, body) in calls {
        let info = &body["agentRuntimeInfo"];
        assert_eq!(info["type"], "ElasticAgentRuntimeInfo", "{action}");
        assert_eq!(info["elasticAgentId"], "pod-1", "{action}");
        assert_eq!(info["elasticPluginId"], "cd.go.contrib.k8s", "{action}");
    }
    let path = chain.folder().join("config/autoregister.properties");
    let left = fs::read_to_string(&path).unwrap();
    let active: Vec<&str> = left.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        active,
        [
            "agent.auto.register.elasticAgent.agentId=pod-1",
            "agent.auto.register.elasticAgent.pluginId=cd.go.contrib.k8s"
        ],
        "{left}"
    );
    assert_eq!(left.matches("4b1e-once").count(), 1, "{left}");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn jobs_do_not_see_what_an_agent_of_gocds_images_registered_with() {
    let scene = Scene::new("image");
    let server = FakeServer::start();
    server.give_work(build_work("unit", 7, &json!([shell("env | sort")])));
    let chain = install(&scene, &server)
        .without_arguments()
        .with_environment("GO_SERVER_URL", &server.url)
        .with_environment("AGENT_BOOTSTRAPPER_ARGS", "-sslVerificationMode 'NONE'")
        .with_environment("AGENT_AUTO_REGISTER_KEY", "388b633a")
        .with_environment("AGENT_AUTO_REGISTER_RESOURCES", "linux,docker")
        .with_environment("AGENT_AUTO_REGISTER_ENVIRONMENTS", "prod")
        .with_environment("AGENT_AUTO_REGISTER_HOSTNAME", "build-07")
        .with_environment("OF_THE_OPERATOR", "is inherited")
        .started();
    wait_until("the job has been reported", || !server.results().is_empty());
    let console = server.console();
    assert!(
        console.contains(" OF_THE_OPERATOR=is inherited\n"),
        "{console}"
    );
    for hidden in ["AGENT_AUTO_REGISTER_", "388b633a"] {
        assert!(!console.contains(hidden), "{console}");
        assert!(!chain.said().contains(hidden), "{}", chain.said());
    }
    let registrations = server.told().registrations.clone();
    let form = &registrations[0];
    assert_eq!(form["agentAutoRegisterKey"], "388b633a");
    assert_eq!(form["agentAutoRegisterResources"], "linux,docker");
    assert_eq!(form["agentAutoRegisterEnvironments"], "prod");
    assert_eq!(form["agentAutoRegisterHostname"], "build-07");
}

#[test]
fn logs_go_where_gocds_packages_and_images_want_them() {
    let scene = Scene::new("logs");
    let server = FakeServer::start();
    let logs = scene.path().join("var-log");
    let chain = install(&scene, &server)
        .with_environment(
            "AGENT_STARTUP_ARGS",
            &format!("-Xmx256m -Dgocd.agent.log.dir={}", logs.display()),
        )
        .with_environment("AGENT_BOOTSTRAPPER_JVM_ARGS", "-Dgo.console.stdout=true")
        .started();
    wait_until("the agent's log is on the bootstrapper's output", || {
        chain.output().contains("Agent started")
    });
    for name in ["go-agent-launcher.log", "go-agent.log"] {
        assert!(fs::metadata(logs.join(name)).unwrap().len() > 0, "{name}");
        assert!(!chain.folder().join("logs").join(name).exists(), "{name}");
    }
}

// --- in the place of a Java agent

#[test]
fn an_agent_takes_the_place_of_a_java_agent_and_leaves_it_as_it_was() {
    let scene = Scene::new("java");
    let server = FakeServer::start();
    server.know_agent();
    let uuid = "6f1c6a52-7a3b-4f8e-9b6e-3d1a2c4b5e6f";
    let properties = "# mine\n# A sentence.\n# agent.auto.register.key=388b633a\n";
    let chain = install(&scene, &server);
    let folder = chain.folder().to_owned();
    let left: &[(&str, &str)] = &[
        ("config/guid.txt", uuid),
        ("config/token", TOKEN),
        ("config/autoregister.properties", properties),
        ("config/agent-logback-include.xml", "<included/>"),
        ("config/agent.jks", "of an old version"),
        ("agent.jar", "PK"),
        ("agent-launcher.jar", "PK"),
        ("agent-plugins.zip", "PK"),
        ("tfs-impl.jar", "PK"),
        ("plugins/bundled/script-executor.jar", "PK"),
        ("plugins_work/x/y", "z"),
        (".tmp.file.list", "data/x"),
        ("logs/go-agent-stdout.log", "of Java\n"),
        ("pipelines/web/kept", "of an earlier job"),
    ];
    for (path, content) in left {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    // It was killed a moment ago.
    fs::write(folder.join(".agent-bootstrapper.running"), "").unwrap();
    let job = Job::given_by(&server, &scene);
    job.let_go_on();
    let mut chain = chain.started();
    assert_passed_whole(&server, &chain);
    chain.stop();

    // The server has seen the agent it knew.
    assert!(server.told().registrations.is_empty());
    for call in server.calls("ping") {
        let identifier = &call["agentRuntimeInfo"]["identifier"];
        assert_eq!(identifier["uuid"], uuid);
    }
    // An operator who goes back finds everything in its place.
    for (path, content) in left {
        let now = fs::read_to_string(folder.join(path)).unwrap();
        assert_eq!(&now, content, "{path}");
    }
    // Java's launcher takes a lock file that was touched lately for a living agent's.
    let lock = fs::metadata(folder.join(".agent-bootstrapper.running")).unwrap();
    assert_eq!(lock.modified().unwrap(), SystemTime::UNIX_EPOCH);
}

#[test]
fn a_guid_and_token_of_ours_are_what_java_writes() {
    let scene = Scene::new("identity");
    let server = FakeServer::start();
    let chain = install(&scene, &server)
        .with_properties("agent.auto.register.key=388b633a\n")
        .started();
    wait_until("the agent asks for work", || {
        server.told().first_get_work.is_some()
    });
    // No line end, which Java would strip, but others who read the files might not.
    let text = |name: &str| fs::read_to_string(chain.folder().join(name)).unwrap();
    assert_eq!(text("config/guid.txt"), chain.uuid());
    assert_eq!(text("config/token"), TOKEN);
    let left = text("config/autoregister.properties");
    let lines: Vec<&str> = left.split('\n').collect();
    assert_eq!(lines.len(), 3, "{left}");
    assert!(lines[0].starts_with("# "), "{left}");
    assert_eq!(lines[1..], ["# agent.auto.register.key=388b633a", ""]);
}

// --- restarts and upgrades

#[test]
fn an_agent_killed_in_the_middle_of_a_job_keeps_job_and_cookie() {
    let scene = Scene::new("gocd-kill");
    let server = FakeServer::start();
    let job = Job::given_by(&server, &scene);
    let mut chain = install(&scene, &server).started();
    job.wait_for_half(&server);
    let runner = chain.pid(Role::Runner);
    chain.kill_nine(Role::Agent);
    wait_until("another agent pings for the job", || {
        chain.process(Role::Agent).is_some() && chain.said().contains("taking it over")
    });
    assert!(processes::alive(runner));
    job.let_go_on();
    assert_passed_whole(&server, &chain);
    assert_one_cookie(&server);
}

#[test]
fn an_agent_asked_to_end_in_the_middle_of_a_job_finishes_it_first() {
    let scene = Scene::new("gocd-term");
    let server = FakeServer::start();
    let job = Job::given_by(&server, &scene);
    let chain = install(&scene, &server).started();
    job.wait_for_half(&server);
    let agent = chain.pid(Role::Agent);
    processes::terminate(agent);
    chain.wait_until_said("StopRequested");
    job.let_go_on();
    // Whoever asked did not ask the bootstrapper: it starts another one, which asks for work.
    assert_passed_whole(&server, &chain);
    assert!(!processes::alive(agent));
    assert_one_cookie(&server);
}

#[test]
fn an_upgrade_in_the_middle_of_a_job_keeps_job_and_cookie() {
    let scene = Scene::new("gocd-upgrade");
    let server = FakeServer::start();
    let job = Job::given_by(&server, &scene);
    let mut chain = install(&scene, &server).started();
    job.wait_for_half(&server);
    let installed = || fs::read_link(chain.folder().join("current")).unwrap();
    let before = installed();
    chain.put_package(&Releases::newer(&scene.folder("newer")));
    chain.kill_nine(Role::Launcher);
    wait_until("the newer agent has taken the job over", || {
        let link = fs::read_link(chain.folder().join("current"));
        link.is_ok_and(|link| link != before) && chain.said().contains("taking it over")
    });
    job.let_go_on();
    assert_passed_whole(&server, &chain);
    assert_one_cookie(&server);
}

#[test]
fn a_job_that_ends_while_no_agent_runs_is_reported_by_itself() {
    let scene = Scene::new("gocd-down");
    let server = FakeServer::start();
    let job = Job::given_by(&server, &scene);
    let mut chain = install(&scene, &server).started();
    job.wait_for_half(&server);
    chain.kill_nine(Role::Bootstrapper);
    wait_until("only the runner is left of the chain", || {
        chain.process(Role::Launcher).is_none() && chain.process(Role::Agent).is_none()
    });
    let asked = server.calls("get_work").len();
    job.let_go_on();
    wait_until("the job has been reported", || !server.results().is_empty());
    assert_eq!(server.calls("get_work").len(), asked);
    chain.start();
    assert_passed_whole(&server, &chain);
    assert_one_cookie(&server);
}
