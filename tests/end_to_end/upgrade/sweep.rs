//! The upgrade is stopped or broken at every call by which it changes the disk, one after the other.
//!
//! `make test` tries a part of them, spread over all; all of them are tried with
//! `JOURNEYMAN_SWEEP=all cargo test -p journeyman-tests --test end_to_end sweep`.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use journeyman_tests::{
    chain::Chain,
    faults::{Fault, Point},
    package::{Package, noise, sha256},
    patience::{wait_for, wait_until},
    scene::Scene,
    server::Server,
    shelf::Shelf,
};
use nix::errno::Errno;
use pretty_assertions::assert_eq;
use serde_json::Value;

/// Points that are tried at a time. They wait most of their time.
const AT_A_TIME: usize = 4;

/// What is swept.
#[derive(Clone, Copy)]
struct Sweep {
    what: &'static str,
    /// Whether the new agent is one that works.
    is_good: bool,
    /// Points that are tried when not all are.
    part: usize,
}

/// How an upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Upgraded,
    /// The release before runs, and the other one is not tried again.
    Stayed,
}

#[test]
fn an_upgrade_ends_well_wherever_it_is_stopped_or_broken() {
    sweep(Sweep {
        what: "upgrade",
        is_good: true,
        part: 28,
    });
}

#[test]
fn going_back_ends_well_wherever_it_is_stopped_or_broken() {
    sweep(Sweep {
        what: "going back",
        is_good: false,
        part: 14,
    });
}

fn sweep(sweep: Sweep) {
    let calls = record(sweep);
    let points = chosen(points(calls), sweep.part);
    let tried = points.len();
    let queue = Mutex::new(points.into_iter());
    let upgraded = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let scene = Scene::new("sweep");
                let mut site = Site::prepared(&scene, sweep);
                loop {
                    let next = queue.lock().expect("no other has failed").next();
                    let Some((point, fault)) = next else { break };
                    if site.break_at(&point, fault) == End::Upgraded {
                        upgraded.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // Not through the test's captured output: it is to be seen.
    let _ = writeln!(
        io::stderr(),
        "sweep of {}: {tried} points stopped or broken, all machines well, {} of them with the \
         new release",
        sweep.what,
        upgraded.into_inner()
    );
}

/// A machine that can be put back to where it was before the upgrade.
struct Site<'a> {
    sweep: Sweep,
    server: Server<'a>,
    chain: Chain<'a>,
    /// The working directory as it was.
    before: PathBuf,
    uuid: String,
    old: Package,
    new: Package,
}

impl<'a> Site<'a> {
    fn prepared(scene: &'a Scene, sweep: Sweep) -> Self {
        let old = Package::agent(1);
        let new = Package::agent(2).with_file("lib/noise", 0o644, &noise(200_000));
        let new = if sweep.is_good {
            new
        } else {
            new.acting_when_started("exit 3")
        };
        let shelf = Shelf::new(scene, "releases");
        let launcher = Package::launcher(2);
        shelf.put(&launcher);
        shelf.put(&old);
        let server = Server::start_with(scene, "server", &["--releases", shelf.folder()]);
        let mut chain = Chain::install(scene, "agent", &server.http_url)
            .with_launcher(&launcher)
            .with_key("")
            .with_quick_upgrades()
            .started();
        let uuid = chain.uuid();
        server.api().wait_for_agent(&uuid, "Enabled", "Idle");
        chain.wait_until_said("CookieReceived");
        wait_until("the probation of the old release is over", || {
            let record = json(&chain.folder().join("releases/upgrade.json"));
            record["agent"]["upgrade"]["state"] != "probation"
        });
        chain.stop();
        shelf.put(&new);
        let before = scene.path().join("before");
        copy(chain.folder(), &before);
        Self {
            sweep,
            server,
            chain,
            before,
            uuid,
            old,
            new,
        }
    }

    fn break_at(&mut self, point: &Point, fault: Fault) -> End {
        let what = format!("{fault:?} at {point:?}");
        self.put_back();
        let traced = self.chain.start_traced(Some((point.clone(), fault)));
        // A dead bootstrapper is started again by somebody; all else is the machine's own business.
        let end = wait_for(&format!("{what}: all is well, or the power is off"), || {
            self.end().map(Some).or(traced.has_ended().then_some(None))
        });
        let end = end.unwrap_or_else(|| {
            self.chain.start();
            wait_for(&format!("{what}: all is well"), || self.end())
        });
        self.chain.power_off();
        traced.wait();
        if end == End::Stayed {
            // Nothing is offered any more to who has failed.
            self.server.must_cli(&["releases", "offer", "0.1.0-2"]);
        }
        end
    }

    /// How the upgrade has ended: on one of both releases, registered as ever, nothing half done.
    fn end(&self) -> Option<End> {
        let folder = self.chain.folder();
        let current = fs::read_link(folder.join("current")).ok()?;
        let record = json(&folder.join("releases/upgrade.json"));
        let sha256 = sha256(&self.new.bytes());
        let upgrade = &record["agent"]["upgrade"];
        if upgrade["to"]["sha256"] != sha256 {
            return None;
        }
        let bad = json(&folder.join("releases/bad.json"));
        let is_bad = bad["builds"]
            .as_array()
            .is_some_and(|builds| builds.iter().any(|bad| bad["build"]["sha256"] == sha256));
        let end = match upgrade["state"].as_str()? {
            "done" if self.sweep.is_good && current.ends_with(self.new.folder_name()) => {
                End::Upgraded
            }
            "rolledBack" | "failed" if is_bad && current.ends_with(self.old.folder_name()) => {
                End::Stayed
            }
            _ => return None,
        };
        let guid = fs::read_to_string(folder.join("config/guid.txt")).ok()?;
        assert_eq!(guid.trim(), self.uuid);
        let agent = self.server.api().agent(&self.uuid)?;
        let build = if end == End::Upgraded { 2 } else { 1 };
        let agrees = agent["journeyman"]["agent"]["build"] == build;
        let is_well = agent["agent_config_state"] == "Enabled" && agent["agent_state"] == "Idle";
        (agrees && is_well).then_some(end)
    }

    fn put_back(&self) {
        fs::remove_dir_all(self.chain.folder()).expect("the folder removed");
        copy(&self.before, self.chain.folder());
    }
}

/// The calls of an upgrade that nobody disturbs.
fn record(sweep: Sweep) -> Vec<Point> {
    let scene = Scene::new("record");
    let mut site = Site::prepared(&scene, sweep);
    site.put_back();
    let traced = site.chain.start_traced(None);
    wait_until("the upgrade is over", || site.end().is_some());
    let calls = traced.calls();
    site.chain.power_off();
    traced.wait();
    calls
}

/// Each call once to stop it and once to let it fail. Of writes to one file that follow each other,
/// the first, the one in the middle, and the last.
fn points(calls: Vec<Point>) -> Vec<(Point, Fault)> {
    let mut chosen = BTreeSet::new();
    let runs = calls.chunk_by(|a, b| a.call == "write" && b.call == "write" && a.path == b.path);
    for run in runs {
        for index in [0, run.len() / 2, run.len() - 1] {
            chosen.insert(run[index].clone());
        }
    }
    // In the order they come.
    let mut in_order: Vec<Point> = Vec::new();
    for call in calls {
        if chosen.remove(&call) {
            in_order.push(call);
        }
    }
    let faults = [
        Fault::PowerCut,
        Fault::Kill,
        Fault::Fail(Errno::EIO, Duration::ZERO),
        Fault::Fail(Errno::ENOSPC, Duration::from_secs(1)),
    ];
    let all = in_order.into_iter();
    all.flat_map(|point| faults.map(|fault| (point.clone(), fault)))
        .collect()
}

fn chosen(points: Vec<(Point, Fault)>, part: usize) -> Vec<(Point, Fault)> {
    if env::var("JOURNEYMAN_SWEEP").is_ok_and(|which| which == "all") {
        return points;
    }
    // Not a divisor of how many faults there are: all of them come.
    let step = (points.len() / part) | 1;
    points.into_iter().step_by(step).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp").success(), "cp -a {from:?} {to:?}");
}
