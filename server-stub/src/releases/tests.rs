//! Releases through the real router and the real database, with a clock that is moved by hand.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use journeyman_protocol::{
    agent::RuntimeStatus,
    release::{Answer, Component, Release, Signature, UpgradeState},
};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use super::{
    offers::{self, OfferError, Wanted},
    progress::{self, MachineView, ReleaseView},
    store::{self, Added, Origin, StoreError},
};
use crate::{
    App,
    agents::{self, Agent, ConfigState},
    clock::ManualClock,
    configuration::{Configuration, Paths, Port},
    start::{Running, Start, start},
};

const PLATFORM: &str = "linux-x86_64";
const HOUR: Duration = Duration::from_secs(3600);

/// A server with an empty folder of releases.
pub(crate) struct Scene {
    pub(crate) running: Running,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) data: TempDir,
}

/// What a machine says of itself.
#[derive(Clone)]
pub(crate) struct Machine(Value);

/// What goes into the manifest of a package.
pub(crate) fn manifest(component: &str, version: &str, build: u64, platform: &str) -> Value {
    json!({
        "format": 1, "component": component, "version": version, "build": build, "platform": platform,
        "entryPoints": { "start": { "path": format!("journeyman-{component}"), "args": ["run"] } },
        "files": [],
    })
}

/// Writes a package whose first file has this name.
fn write(path: &Path, first: &str, manifest: &Value) {
    let text = manifest.to_string();
    let _ = fs::remove_file(path);
    let to = zstd::stream::write::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(to);
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, first, text.as_bytes())
        .unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

pub(crate) fn write_package(path: &Path, manifest: &Value) {
    write(path, "manifest.json", manifest);
}

fn signature(byte: u8) -> Signature {
    Signature {
        key: format!("{byte:016x}"),
        signature: STANDARD.encode([byte; 64]),
    }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let running = serve(data.path(), &clock).await;
        Self {
            running,
            clock,
            data,
        }
    }

    async fn restarted(self) -> Self {
        let Self {
            running,
            clock,
            data,
        } = self;
        running.stop().await;
        let running = serve(data.path(), &clock).await;
        Self {
            running,
            clock,
            data,
        }
    }

    pub(crate) fn app(&self) -> &App {
        &self.running.app
    }

    fn in_folder(&self, component: &str) -> PathBuf {
        let folder = &self.app().paths.releases;
        fs::create_dir_all(folder).unwrap();
        folder.join(format!("{component}-{PLATFORM}.tar.zst"))
    }

    /// Puts launcher and agent into the folder.
    fn fill_folder(&self, version: &str, build: u64) {
        for component in ["launcher", "agent"] {
            let manifest = manifest(component, version, build, PLATFORM);
            write_package(&self.in_folder(component), &manifest);
        }
    }

    async fn add_one(
        &self,
        manifest: &Value,
        signatures: Vec<Signature>,
    ) -> Result<Added, StoreError> {
        let app = self.app();
        let incoming = NamedTempFile::new_in(app.paths.incoming()).unwrap();
        write_package(&incoming.path().with_extension("new"), manifest);
        fs::rename(incoming.path().with_extension("new"), incoming.path()).unwrap();
        let incoming = NamedTempFile::from_parts(
            File::open(incoming.path()).unwrap(),
            incoming.into_temp_path(),
        );
        let measured = store::measure(app, incoming, "a package".into()).await?;
        store::add(app, measured, signatures, Origin::Admin).await
    }

    /// Adds a release with launcher and agent; answers its id.
    pub(crate) async fn add(&self, version: &str, build: u64) -> String {
        for component in ["launcher", "agent"] {
            let manifest = manifest(component, version, build, PLATFORM);
            self.add_one(&manifest, Vec::new()).await.unwrap();
        }
        format!("{version}-{build}")
    }

    pub(crate) async fn offer(&self, release: &str, to: &str) -> i64 {
        self.offer_as(wanted(release, to)).await
    }

    async fn offer_as(&self, wanted: Wanted) -> i64 {
        offers::offer(self.app(), &wanted).await.unwrap().0.id
    }

    pub(crate) async fn agent(&self, uuid: &str, environments: &[&str], state: ConfigState) {
        let agent = Agent {
            uuid: uuid.to_owned(),
            hostname: format!("host-{uuid}"),
            ip_address: "127.0.0.1".to_owned(),
            location: "/srv/agent".to_owned(),
            operating_system: "Linux".to_owned(),
            usable_space: None,
            agent_version: "1".to_owned(),
            bootstrapper_version: "1".to_owned(),
            config_state: state,
            runtime_status: RuntimeStatus::Idle,
            resources: Vec::new(),
            environments: environments.iter().map(|&one| one.to_owned()).collect(),
            elastic: None,
            cookie: None,
            build_locator: String::new(),
            kill_requested: false,
            cancelled_at: None,
            last_heard_at: Some(self.app().now_ms()),
            registered_at: self.app().now_ms(),
        };
        let mut write = self.app().database.write().await.unwrap();
        agents::insert(&mut write, &agent).await.unwrap();
        write.commit().await.unwrap();
    }

    /// Status and answer to a report.
    async fn post(&self, headers: &[(&str, &str)], body: &Value) -> (u16, Option<Release>) {
        let url = format!("{}/admin/journeyman/release", self.app().endpoints.http_url);
        let mut request = reqwest::Client::new().post(url).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let answer: Answer = response.json().await.unwrap_or_default();
        (status, answer.release)
    }

    async fn stranger(&self, machine: &Machine) -> Option<Release> {
        let (status, release) = self.post(&[], &machine.0).await;
        assert_eq!(status, 200);
        release
    }

    /// What an agent with its own token is answered.
    pub(crate) async fn report(&self, uuid: &str, machine: &Machine) -> Option<Release> {
        let token = self.app().keys.token(uuid);
        let headers = [("X-Agent-GUID", uuid), ("Authorization", token.as_str())];
        let (status, release) = self.post(&headers, &machine.0).await;
        assert_eq!(status, 200);
        release
    }

    async fn view(&self, uuid: &str) -> Option<MachineView> {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        let now = self.app().now_ms();
        let agent = agents::find(&mut connection, uuid).await.unwrap().unwrap();
        let one = progress::machine(&mut connection, &agent, now)
            .await
            .unwrap();
        let mut all = progress::machines(&mut connection, now).await.unwrap();
        assert_eq!(all.remove(uuid), one);
        one
    }

    async fn state(&self, uuid: &str) -> Option<(UpgradeState, String)> {
        let progress = self.view(uuid).await?.progress?;
        Some((progress.state, progress.release))
    }

    async fn release(&self, id: &str) -> ReleaseView {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        progress::release(&mut connection, id, self.app().now_ms())
            .await
            .unwrap()
            .unwrap()
    }
}

impl Machine {
    /// One that runs nothing yet.
    pub(crate) fn empty() -> Self {
        Self(json!({ "platform": PLATFORM, "bootstrapper": "0.1.0" }))
    }

    /// One that runs a release that it knows only by version and build.
    pub(crate) fn with(version: &str, build: u64) -> Self {
        let build = json!({ "version": version, "build": build });
        Self::empty()
            .says("launcher", build.clone())
            .says("agent", build)
    }

    /// One that runs what it was offered.
    fn running(release: &Release) -> Self {
        Self::empty()
            .says("launcher", json!(release.launcher.build()))
            .says("agent", json!(release.agent.build()))
    }

    pub(crate) fn says(mut self, member: &str, value: Value) -> Self {
        self.0[member] = value;
        self
    }

    fn upgrading(self, to: &Release, state: &str, reason: Option<&str>) -> Self {
        let upgrade = json!({
            "component": "agent", "to": to.agent.build(), "state": state, "reason": reason,
        });
        self.says("upgrade", upgrade)
    }

    fn marked_bad(self, release: &Release) -> Self {
        let bad =
            json!([{ "build": release.agent.build(), "component": "agent", "reason": "it died" }]);
        self.says("bad", bad)
    }
}

async fn serve(data: &Path, clock: &Arc<ManualClock>) -> Running {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    start(Start {
        configuration: Configuration::default(),
        paths: Paths::new(data.to_path_buf(), None),
        http_port: Port::Exactly(0),
        https_port: Port::Exactly(0),
        auto_register_key: None,
        login: crate::users::Login::Off,
        clock,
    })
    .await
    .unwrap()
}

fn wanted(release: &str, to: &str) -> Wanted {
    Wanted {
        release: release.to_owned(),
        target: to.parse().unwrap(),
        over: Duration::ZERO,
        downgrade: false,
        stop_at: offers::STOP_AT,
    }
}

fn version(release: Option<&Release>) -> Option<(&str, &str, bool)> {
    release.map(|release| {
        let launcher = release.launcher.manifest.version.as_str();
        let agent = release.agent.manifest.version.as_str();
        (launcher, agent, release.downgrade)
    })
}

#[tokio::test]
async fn what_is_in_the_folder_is_offered_until_something_else_is() {
    let scene = Scene::new().await;
    let machine = Machine::with("0.0.1", 1);
    assert_eq!(scene.stranger(&machine).await, None);

    scene.fill_folder("0.1.0", 5);
    let first = scene.stranger(&machine).await.unwrap();
    assert_eq!(version(Some(&first)), Some(("0.1.0", "0.1.0", true)));
    assert_eq!(scene.stranger(&machine).await.as_ref(), Some(&first));
    let other = machine.clone().says("platform", json!("plan9-mips"));
    assert_eq!(scene.stranger(&other).await, None);

    // Another checksum of the same version and build, with a signature.
    let mut changed = manifest("agent", "0.1.0", 5, PLATFORM);
    changed["protocols"] = json!(["launcher-1"]);
    write_package(&scene.in_folder("agent"), &changed);
    let signatures = json!({ "signatures": [signature(1)] }).to_string();
    let sig = scene.in_folder("agent").with_extension("zst.sig");
    fs::write(&sig, signatures).unwrap();
    let second = scene.stranger(&machine).await.unwrap();
    assert!(second.agent.package.sha256 != first.agent.package.sha256);
    assert_eq!(second.agent.package.signatures, [signature(1)]);
    let stored = |release: &Release| scene.app().paths.package(&release.agent.package.sha256);
    assert!(!stored(&first).exists() && stored(&second).exists());

    // A signature that comes later is no other offer.
    let signatures = json!({ "signatures": [signature(2)] }).to_string();
    fs::write(&sig, signatures).unwrap();
    let third = scene.stranger(&machine).await.unwrap();
    assert_eq!(third.agent.package.signatures, [signature(1), signature(2)]);
    let view = scene.release("0.1.0-5").await;
    assert_eq!(view.offers.len(), 2, "{view:?}");
    fs::remove_file(&sig).unwrap();

    // An older build, half of it a broken file.
    scene.fill_folder("0.0.9", 2);
    fs::write(scene.in_folder("launcher"), "cut").unwrap();
    let half = scene.stranger(&Machine::running(&third)).await;
    assert_eq!(version(half.as_ref()), Some(("0.1.0", "0.0.9", true)));
    scene.fill_folder("0.0.9", 2);
    let older = scene.stranger(&Machine::running(&third)).await;
    assert_eq!(version(older.as_ref()), Some(("0.0.9", "0.0.9", true)));

    // A restart makes no other offer of the same files, and withdrawn ones stay withdrawn.
    let scene = scene.restarted().await;
    assert_eq!(scene.stranger(&machine).await, older);
    offers::withdraw(scene.app(), "0.0.9-2", None)
        .await
        .unwrap();
    assert_eq!(scene.stranger(&machine).await, None);
    let error = store::delete(scene.app(), "0.0.9-2").await.unwrap_err();
    assert!(matches!(error, StoreError::InFolder { .. }), "{error}");
    let scene = scene.restarted().await;
    assert_eq!(scene.stranger(&machine).await, None);

    fs::remove_file(scene.in_folder("agent")).unwrap();
    fs::remove_file(scene.in_folder("launcher")).unwrap();
    assert_eq!(scene.stranger(&machine).await, None);
    store::delete(scene.app(), "0.0.9-2").await.unwrap();
    scene.running.stop().await;
}

#[tokio::test]
async fn the_folder_must_hold_what_its_names_say() {
    let scene = Scene::new().await;
    scene.fill_folder("0.1.0", 5);
    fs::rename(scene.in_folder("launcher"), scene.in_folder("agent")).unwrap();
    write(&scene.in_folder("launcher"), "journeyman", &json!({}));
    assert_eq!(scene.stranger(&Machine::empty()).await, None);
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    assert!(store::list(&mut connection).await.unwrap().is_empty());
    drop(connection);
    scene.running.stop().await;
}

#[tokio::test]
async fn packages_are_downloaded_by_checksum_and_in_parts() {
    let scene = Scene::new().await;
    let id = scene.add("0.1.0", 5).await;
    let package = scene.release(&id).await.packages.remove(0);
    let base = format!(
        "{}/admin/journeyman/packages",
        scene.app().endpoints.http_url
    );
    let get = async |name: &str, range: &str| {
        let request = reqwest::Client::new().get(format!("{base}/{name}"));
        let response = request.header("Range", range).send().await.unwrap();
        let tag = response.headers().get("etag").cloned();
        let status = response.status().as_u16();
        (status, tag, response.bytes().await.unwrap())
    };
    let (status, tag, bytes) = get(&package.sha256, "bytes=4-").await;
    assert_eq!((status, bytes.len() as u64), (206, package.size - 4));
    assert_eq!(tag.unwrap(), format!("\"{}\"", package.sha256));
    assert_eq!(get(&"0".repeat(64), "").await.0, 404);
    assert_eq!(get("..%2F..%2Fjourneyman.db", "").await.0, 404);

    // What a crash leaves behind is gone after the next start.
    let orphan = scene.app().paths.package(&"1".repeat(64));
    fs::write(&orphan, "x").unwrap();
    let scene = scene.restarted().await;
    assert!(!orphan.exists());
    assert!(scene.app().paths.package(&package.sha256).exists());
    store::delete(scene.app(), &id).await.unwrap();
    assert!(!scene.app().paths.package(&package.sha256).exists());
    scene.running.stop().await;
}

#[tokio::test]
async fn a_release_never_changes_and_its_signatures_add_up() {
    let scene = Scene::new().await;
    let agent = manifest("agent", "0.1.0", 5, PLATFORM);
    let added = scene.add_one(&agent, vec![signature(1)]).await.unwrap();
    assert!(added.changed);
    assert!(!scene.add_one(&agent, Vec::new()).await.unwrap().changed);
    let again = scene
        .add_one(&agent, vec![signature(1), signature(2)])
        .await;
    let again = again.unwrap();
    assert!(again.changed);
    assert_eq!(again.package.signatures, [signature(1), signature(2)]);
    let signed = store::sign(scene.app(), &again.package.sha256, vec![signature(3)]).await;
    assert_eq!(signed.unwrap().package.signatures.len(), 3);

    let mut other = agent.clone();
    other["protocols"] = json!(["x"]);
    let error = scene.add_one(&other, Vec::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("0.1.0-5") && text.contains("greater build sequence"),
        "{text}"
    );
    // Nor does the folder change it.
    write_package(&scene.in_folder("agent"), &other);
    assert_eq!(scene.stranger(&Machine::empty()).await, None);
    assert_eq!(scene.release("0.1.0-5").await.packages.len(), 1);

    let mut wrong = signature(4);
    wrong.signature = "x".to_owned();
    let error = scene.add_one(&agent, vec![wrong]).await.unwrap_err();
    assert!(matches!(error, StoreError::Signature(_)), "{error}");
    for (member, value) in [
        ("format", json!(2)),
        ("version", json!("../up")),
        ("platform", json!("")),
        ("build", json!(u64::MAX)),
        (
            "entryPoints",
            json!({ "start": { "path": "../../bin/sh" } }),
        ),
        (
            "files",
            json!([{ "path": "/etc/passwd", "size": 1, "mode": 1, "sha256": "" }]),
        ),
    ] {
        let mut spoiled = agent.clone();
        spoiled[member] = value;
        let error = scene.add_one(&spoiled, Vec::new()).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Manifest(_)),
            "{member}: {error}"
        );
    }
    let error = offers::offer(scene.app(), &wanted("0.1.0-5", "all")).await;
    assert!(
        matches!(error, Err(OfferError::Incomplete { .. })),
        "{error:?}"
    );
    scene.running.stop().await;
}

#[tokio::test]
async fn offers_are_for_whom_they_say_and_the_newest_counts() {
    let scene = Scene::new().await;
    for (uuid, environments) in [("a", vec!["Test"]), ("b", vec![]), ("c", vec![])] {
        scene.agent(uuid, &environments, ConfigState::Enabled).await;
    }
    scene.agent("new", &[], ConfigState::Pending).await;
    let machine = Machine::with("0.1.0", 1);
    let hears = async |scene: &Scene| {
        let mut heard = Vec::new();
        for uuid in ["a", "b", "c", "new"] {
            let release = scene.report(uuid, &machine).await;
            heard.push(release.map_or(0, |release| release.agent.manifest.build));
        }
        let stranger = scene.stranger(&machine).await;
        heard.push(stranger.map_or(0, |release| release.agent.manifest.build));
        heard
    };
    for build in 2..=5 {
        scene.add("0.2.0", build).await;
    }
    assert_eq!(hears(&scene).await, [0, 0, 0, 0, 0]);
    scene.offer("0.2.0-2", "all").await;
    assert_eq!(hears(&scene).await, [2, 2, 2, 2, 2]);
    scene.offer("0.2.0-3", "environment=test").await;
    assert_eq!(hears(&scene).await, [3, 2, 2, 2, 2]);
    let fourth = scene.offer("0.2.0-4", "agents=a,HOST-B").await;
    assert_eq!(hears(&scene).await, [4, 4, 2, 2, 2]);
    scene.offer("0.2.0-5", "percent=100").await;
    assert_eq!(hears(&scene).await, [5, 5, 5, 5, 5]);
    offers::withdraw(scene.app(), "0.2.0-5", None)
        .await
        .unwrap();
    assert_eq!(hears(&scene).await, [4, 4, 2, 2, 2]);
    let fifth = scene.release("0.2.0-5").await;
    assert_eq!(
        fifth.status(),
        "not offered any more: withdrawn by an administrator"
    );
    let error = offers::withdraw(scene.app(), "0.2.0-4", Some(fourth + 7)).await;
    assert!(matches!(error, Err(OfferError::UnknownOffer { .. })));
    let error = store::delete(scene.app(), "0.2.0-4").await.unwrap_err();
    assert!(matches!(error, StoreError::Offered(_)), "{error}");
    scene.running.stop().await;
}

#[tokio::test]
async fn warnings_name_who_is_left_out() {
    let scene = Scene::new().await;
    scene.agent("arm", &[], ConfigState::Enabled).await;
    scene.agent("intel", &[], ConfigState::Enabled).await;
    let arm = Machine::with("0.1.0", 1).says("platform", json!("linux-aarch64"));
    scene.report("arm", &arm).await;
    scene.report("intel", &Machine::with("0.1.0", 1)).await;
    let id = scene.add("0.2.0", 2).await;
    let warned = async |to: &str| {
        offers::offer(scene.app(), &wanted(&id, to))
            .await
            .unwrap()
            .1
    };
    assert_eq!(
        warned("all").await,
        [
            "release 0.2.0-2 has no launcher and no agent for linux-aarch64: host-arm will keep what they run \
          until you add it"
        ]
    );
    assert!(warned("agents=intel").await.is_empty());
    assert_eq!(
        warned("environment=x").await,
        ["no agent is in the environment x now"]
    );
    assert_eq!(
        warned("agents=intel,nobody").await,
        ["no agent has the uuid or host name nobody now"]
    );
    scene.running.stop().await;
}

#[tokio::test]
async fn a_duration_spreads_an_offer_and_the_states_say_so() {
    let scene = Scene::new().await;
    let id = scene.add("0.2.0", 2).await;
    let started = scene.app().now_ms();
    let spread = Wanted {
        over: HOUR,
        ..wanted(&id, "all")
    };
    let offer = scene.offer_as(spread).await;
    let when = |uuid: &str| super::rollout::not_before(offer, uuid, started, 3_600_000) - started;
    let minute = 60_000;
    let pick = |range: std::ops::Range<i64>| {
        (0..)
            .map(|number: u32| format!("agent-{number}"))
            .find(|uuid| range.contains(&when(uuid)))
            .unwrap()
    };
    let early = pick(0..10 * minute);
    let late = pick(50 * minute..60 * minute);
    let machine = Machine::with("0.1.0", 1);
    for uuid in [&early, &late] {
        scene.agent(uuid, &[], ConfigState::Enabled).await;
    }
    scene.clock.advance(Duration::from_secs(600));
    let release = scene.report(&early, &machine).await.unwrap();
    assert_eq!(scene.report(&late, &machine).await, None);
    assert_eq!(scene.stranger(&machine).await, None);
    assert_eq!(
        scene.state(&early).await,
        Some((UpgradeState::Requested, id.clone()))
    );
    let view = scene.view(&late).await.unwrap().progress.unwrap();
    assert_eq!(
        (view.state, view.at),
        (UpgradeState::Scheduled, Some(started + when(&late)))
    );
    let counts = scene.release(&id).await.states;
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [("requested", 1), ("scheduled", 1)]
    );

    let under_way = machine.clone().upgrading(&release, "downloading", None);
    scene.report(&early, &under_way).await;
    let began = scene.app().now_ms();
    scene.clock.advance(Duration::from_secs(60));
    scene.report(&early, &under_way).await;
    let view = scene.view(&early).await.unwrap().progress.unwrap();
    assert_eq!(
        (view.state, view.at),
        (UpgradeState::Downloading, Some(began))
    );
    // A download that failed is told, and does not count.
    let failed = machine
        .clone()
        .upgrading(&release, "failed", Some("disk full"));
    assert!(scene.report(&early, &failed).await.is_some());
    let view = scene.view(&early).await.unwrap().progress.unwrap();
    assert_eq!(
        (view.state, view.reason.as_deref()),
        (UpgradeState::Failed, Some("disk full"))
    );
    let done = Machine::running(&release).upgrading(&release, "done", None);
    scene.report(&early, &done).await;
    assert_eq!(
        scene.state(&early).await,
        Some((UpgradeState::Done, id.clone()))
    );

    // One whose time is past when it comes back hears at once.
    scene.clock.advance(10 * HOUR);
    assert!(scene.report(&late, &machine).await.is_some());
    assert!(scene.stranger(&machine).await.is_some());
    // It was never seen in between, and is simply up to date.
    scene.report(&late, &Machine::running(&release)).await;
    assert_eq!(scene.state(&late).await, None);
    let view = scene.release(&id).await;
    assert_eq!((view.running, view.machines.len()), (2, 2));
    let tally = view.offers[0].tally;
    assert_eq!((tally.asked, tally.done, tally.failed), (2, 2, 0));
    scene.running.stop().await;
}

#[tokio::test]
async fn too_many_failed_probations_end_an_offer() {
    let scene = Scene::new().await;
    let machine = Machine::with("0.1.0", 1);
    for uuid in ["a", "b", "c", "d"] {
        scene.agent(uuid, &[], ConfigState::Enabled).await;
        scene.report(uuid, &machine).await;
    }
    let id = scene.add("0.2.0", 2).await;
    scene.offer(&id, "all").await;
    let release = scene.report("a", &machine).await.unwrap();
    let rolled_back = machine
        .clone()
        .upgrading(&release, "rolledBack", Some("it died"))
        .marked_bad(&release);
    // One that failed on a machine is not offered to it again.
    assert_eq!(scene.report("a", &rolled_back).await, None);
    assert_eq!(
        scene.state("a").await,
        Some((UpgradeState::RolledBack, id.clone()))
    );
    for uuid in ["b", "c"] {
        assert!(scene.report(uuid, &machine).await.is_some());
        let running = Machine::running(&release);
        let last = scene.report(uuid, &running).await.is_some();
        assert_eq!(last, uuid == "b", "{uuid}");
    }
    assert_eq!(scene.report("d", &machine).await, None);
    let view = scene.release(&id).await;
    assert_eq!(
        view.status(),
        "not offered any more: stopped because 1 of 3 probations failed"
    );

    // On the admin's word it goes on, without the machine where it failed.
    scene.offer(&id, "all").await;
    assert_eq!(scene.report("a", &rolled_back).await, None);
    assert!(scene.report("d", &machine).await.is_some());
    scene.report("d", &Machine::running(&release)).await;
    assert!(scene.release(&id).await.is_offered());

    // Of few machines all must have finished.
    let next = scene.add("0.3.0", 3).await;
    scene.offer(&next, "agents=b,c").await;
    let newer = scene
        .report("b", &Machine::running(&release))
        .await
        .unwrap();
    scene.report("b", &Machine::running(&newer)).await;
    let newer = scene
        .report("c", &Machine::running(&release))
        .await
        .unwrap();
    assert!(scene.release(&next).await.is_offered());
    let bad = Machine::running(&release).marked_bad(&newer);
    scene.report("c", &bad).await;
    assert_eq!(
        scene.release(&next).await.status(),
        "not offered any more: stopped because 1 of 2 probations failed"
    );
    scene.running.stop().await;
}

#[tokio::test]
async fn an_older_build_needs_the_admins_word_and_nothing_is_taken_back() {
    let scene = Scene::new().await;
    scene.agent("a", &[], ConfigState::Enabled).await;
    // A higher version that was built earlier is the older one.
    let old = scene.add("0.9.0", 3).await;
    let new = scene.add("0.2.0", 7).await;
    let first = scene.offer_as(Wanted {
        downgrade: true,
        ..wanted(&old, "all")
    });
    first.await;
    let before = scene.report("a", &Machine::with("0.2.0", 7)).await;
    assert_eq!(version(before.as_ref()), Some(("0.9.0", "0.9.0", true)));

    scene.offer(&new, "all").await;
    let newest = scene.report("a", &Machine::running(&before.unwrap())).await;
    assert_eq!(version(newest.as_ref()), Some(("0.2.0", "0.2.0", false)));
    let up_to_date = Machine::running(&newest.unwrap());
    assert!(scene.report("a", &up_to_date).await.is_some());
    // The earlier offer counts again, and is not about what came after it.
    offers::withdraw(scene.app(), &new, None).await.unwrap();
    assert_eq!(scene.report("a", &up_to_date).await, None);
    scene.offer(&old, "all").await;
    assert_eq!(scene.report("a", &up_to_date).await, None);
    scene
        .offer_as(Wanted {
            downgrade: true,
            ..wanted(&old, "agents=a")
        })
        .await;
    let down = scene.report("a", &up_to_date).await;
    assert_eq!(version(down.as_ref()), Some(("0.9.0", "0.9.0", true)));
    assert_eq!(scene.state("a").await, Some((UpgradeState::Requested, old)));
    scene.running.stop().await;
}

/// Vector 58.
#[tokio::test]
async fn nobody_speaks_for_another() {
    let scene = Scene::new().await;
    for uuid in ["a", "b"] {
        scene.agent(uuid, &[], ConfigState::Enabled).await;
    }
    let id = scene.add("0.2.0", 2).await;
    scene.offer(&id, "agents=b").await;
    let machine = Machine::with("0.1.0", 1);
    scene.report("b", &machine).await.unwrap();
    let before = scene.view("b").await;
    let (a, b) = (scene.app().keys.token("a"), scene.app().keys.token("b"));
    let lie = Machine::with("6.6.6", 6);
    for headers in [
        vec![("X-Agent-GUID", "b"), ("Authorization", a.as_str())],
        vec![("X-Agent-GUID", "b")],
        vec![("Authorization", b.as_str())],
        vec![("X-Agent-GUID", ""), ("Authorization", "")],
    ] {
        assert_eq!(
            scene.post(&headers, &lie.0).await,
            (403, None),
            "{headers:?}"
        );
    }
    // Nobody in particular hears nothing of it, and leaves nothing behind.
    assert_eq!(scene.stranger(&lie).await, None);
    assert_eq!(scene.report("unknown", &lie).await, None);
    assert_eq!(scene.view("b").await, before);
    assert_eq!(scene.view("a").await, None);

    // A part that cannot be read does not spoil the others.
    let spoiled = machine
        .says("upgrade", json!({ "state": 7 }))
        .says("setAside", json!(["jobs/1"]));
    assert!(scene.report("b", &spoiled).await.is_some());
    let view = scene.view("b").await.unwrap();
    assert_eq!(view.set_aside, ["jobs/1"]);
    assert_eq!(view.agent.unwrap().build, 1);
    let too_much = json!({ "platform": "x".repeat(300 * 1024) });
    assert_eq!(scene.post(&[], &too_much).await.0, 413);
    assert_eq!(scene.post(&[], &json!([])).await.0, 400);
    scene.running.stop().await;
}

#[tokio::test]
async fn a_newer_bootstrapper_is_shown_and_offered() {
    let scene = Scene::new().await;
    scene.agent("a", &[], ConfigState::Enabled).await;
    let id = scene.add("0.2.0", 2).await;
    let bootstrapper = manifest("bootstrapper", "0.2.0", 2, PLATFORM);
    scene.add_one(&bootstrapper, Vec::new()).await.unwrap();
    scene.offer(&id, "all").await;
    let release = scene.report("a", &Machine::empty()).await.unwrap();
    assert_eq!(
        release.bootstrapper.unwrap().manifest.component,
        Component::Bootstrapper
    );
    let view = scene.view("a").await.unwrap();
    assert_eq!(
        (
            view.bootstrapper.as_deref(),
            view.newer_bootstrapper.as_deref()
        ),
        (Some("0.1.0"), Some("0.2.0"))
    );
    scene.running.stop().await;
}
