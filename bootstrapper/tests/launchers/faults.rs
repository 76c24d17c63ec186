//! The real bootstrapper, killed or told that the disk is full at each system call that changes the
//! disk, in turn: whatever that leaves behind, the next start runs the right launcher.

use std::{fs, process::Command};

use crate::scene::{Bootstrapper, LIVES, Scene, script};

/// What changes the disk, or may. Calls are counted by name, so each name has its turn.
const CHANGES: [&str; 10] = [
    "openat",
    "write",
    "copy_file_range",
    "fchmod",
    "fsync",
    "?rename",
    "renameat",
    "?unlink",
    "?mkdir",
    "mkdirat",
];
/// What a full disk fails.
const NEEDS_SPACE: [&str; 7] = [
    "write",
    "copy_file_range",
    "fsync",
    "?rename",
    "renameat",
    "?mkdir",
    "mkdirat",
];
/// Where the bootstrapper waits.
const WAITS: &str = "/^p?poll";

/// What a bootstrapper does while it is disturbed.
struct Story {
    name: &'static str,
    /// Files before it starts.
    before: Vec<(&'static str, Vec<u8>)>,
    /// The launcher that must run in the end, and be good.
    right: &'static str,
    /// Files in the end.
    after: Vec<(&'static str, Vec<u8>)>,
}

fn stories() -> [Story; 5] {
    let old = script("old", LIVES, "well-after-ms: 0\n");
    let new = script("new", LIVES, "well-after-ms: 0\n");
    let hopeless = script("hopeless", "exit 64", "");
    let carried = script("carried", LIVES, "");
    [
        Story {
            name: "going back",
            before: vec![
                ("journeyman-launcher", hopeless.clone()),
                ("journeyman-launcher.good", old.clone()),
            ],
            right: "old",
            after: vec![
                ("journeyman-launcher", old.clone()),
                ("journeyman-launcher.good", old.clone()),
                ("journeyman-launcher.bad", hopeless),
            ],
        },
        Story {
            name: "going back from half a file",
            before: vec![
                ("journeyman-launcher", new[..40].to_vec()),
                ("journeyman-launcher.good", old.clone()),
                ("journeyman-launcher.bad", b"an older one".to_vec()),
            ],
            right: "old",
            after: vec![
                ("journeyman-launcher", old.clone()),
                ("journeyman-launcher.good", old.clone()),
                ("journeyman-launcher.bad", new[..40].to_vec()),
            ],
        },
        Story {
            name: "keeping one that works",
            before: vec![
                ("journeyman-launcher", new.clone()),
                ("journeyman-launcher.good", old.clone()),
            ],
            right: "new",
            after: vec![
                ("journeyman-launcher", new.clone()),
                ("journeyman-launcher.good", new),
            ],
        },
        Story {
            name: "restoring a missing one",
            before: vec![("journeyman-launcher.good", old.clone())],
            right: "old",
            after: vec![
                ("journeyman-launcher", old.clone()),
                ("journeyman-launcher.good", old),
            ],
        },
        Story {
            name: "unpacking the carried one for two that are damaged",
            before: vec![
                ("journeyman-launcher", b"damaged".to_vec()),
                ("journeyman-launcher.good", b"damaged too".to_vec()),
            ],
            right: "carried",
            after: vec![("journeyman-launcher", carried)],
        },
    ]
}

impl Story {
    fn begin(&self) -> Scene {
        let scene = Scene::new();
        for (name, bytes) in &self.before {
            scene.write(name, bytes);
        }
        scene
    }

    fn is_over(&self, scene: &Scene) -> bool {
        scene.runs().last().is_some_and(|run| run == self.right)
            && self
                .after
                .iter()
                .all(|(name, bytes)| fs::read(scene.path(name)).is_ok_and(|read| read == *bytes))
    }

    /// Starts a bootstrapper that nothing disturbs and sees that all ends well.
    fn ends_well(&self, scene: &Scene, disturbed: &str) {
        // What the disturbed one started may still be about to write its name.
        let before = scene.log().len();
        let bootstrapper = scene.start();
        let started = format!("started launcher {} ", self.right);
        scene.wait_for(&format!("{}, {disturbed}", self.name), || {
            scene.log()[before..].contains(&started) && self.is_over(scene)
        });
        let end = bootstrapper.ask_to_stop();
        let name = self.name;
        assert!(end.success(), "{name}, {disturbed}: {end}: {}", scene.log());
        scene.assert_nothing_left_behind();
    }
}

/// Starts a bootstrapper that is traced and disturbed. It is our own child: the tracer is not.
fn disturbed(scene: &Scene, call: &str, how: &str) -> Bootstrapper {
    let mut strace = Command::new("strace");
    strace
        // The loader would look for its libraries in each of these folders.
        .env_remove("LD_LIBRARY_PATH")
        .args(["-D", "-qq", "-o"])
        .arg(scene.trace())
        .arg(format!("--trace={call},{WAITS}"))
        .arg(format!("--inject={call}:{how}"))
        .arg(Scene::program());
    scene.run(&mut strace)
}

/// Disturbs each call in turn, in each story. `disturb` says whether there was such a call.
fn everywhere(calls: &[&str], mut disturb: impl FnMut(&Story, &Scene, &str, usize) -> bool) {
    let mut points = 0;
    for story in stories() {
        for call in calls {
            let reached = (1..)
                .take_while(|number| {
                    let scene = story.begin();
                    let reached = disturb(&story, &scene, call, *number);
                    if reached {
                        story.ends_well(&scene, &format!("{call} {number}"));
                    }
                    reached
                })
                .count();
            println!("{}: {call} {reached} times", story.name);
            points += reached;
        }
    }
    println!("disturbed at {points} points");
    assert!(points >= 100, "{points} points: is everything traced?");
}

#[test]
fn killed_at_any_call() {
    everywhere(&CHANGES, |story, scene, call, number| {
        let how = format!("signal=KILL:when={number}");
        let mut bootstrapper = disturbed(scene, call, &how);
        scene.wait_for(story.name, || {
            bootstrapper.ended().is_some() || story.is_over(scene)
        });
        // It may yet be killed while it stops.
        !bootstrapper.ask_to_stop().success()
    });
}

fn disk_full(when: &str) {
    everywhere(&NEEDS_SPACE, |story, scene, call, number| {
        let how = format!("error=ENOSPC:when={number}{when}");
        let mut bootstrapper = disturbed(scene, call, &how);
        let trace = || fs::read_to_string(scene.trace()).unwrap_or_default();
        scene.wait_for(story.name, || {
            let rests_after_it = trace()
                .split_once("(INJECTED)")
                .is_some_and(|(_, after)| after.contains("poll("));
            rests_after_it || bootstrapper.ended().is_some() || story.is_over(scene)
        });
        bootstrapper.ask_to_stop();
        trace().contains("(INJECTED)")
    });
}

#[test]
fn disk_full_at_any_call() {
    disk_full("");
}

#[test]
fn disk_full_from_any_call_on() {
    disk_full("+");
}

#[test]
fn a_disk_that_was_full_for_a_moment_needs_no_new_start() {
    for story in stories() {
        for call in ["copy_file_range", "fsync", "?rename", "renameat"] {
            let scene = story.begin();
            let bootstrapper = disturbed(&scene, call, "error=ENOSPC:when=1");
            scene.wait_for(story.name, || {
                scene.runs().last().is_some_and(|run| run == story.right)
            });
            bootstrapper.stop();
        }
    }
}
