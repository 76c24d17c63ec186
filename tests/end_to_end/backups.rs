//! `kill -9` in the middle of a backup and of a restore, at calls that change the disk.
//!
//! The data folder is whole before and after, and half a backup is never taken for one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use journeyman_tests::{
    binaries::binary,
    faults::{self, Fault, Point},
    repo::Repo,
    scene::Scene,
    server::Server,
};

const PIPELINES: &str = "\
format_version: 11
pipelines:
  shop:
    group: web
    materials: { source: { git: \"{url}\" } }
    stages: [ { build: { approval: manual, tasks: [ { script: make } ] } } ]
";

/// So many points are tried of each kind, spread over all there are.
const TRIED: usize = 24;

/// Every file below a folder with what is in it, but for locks and what SQLite leaves beside a database
/// whose reader was killed: an index that the next one makes anew, and a log with nothing in it.
type Content = BTreeMap<PathBuf, Vec<u8>>;

fn content(folder: &Path) -> Content {
    let mut found = Content::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_owned();
            let bytes = fs::read(&path).unwrap();
            let shown = name.to_string_lossy();
            let is_left = shown.ends_with("-shm") || (shown.ends_with("-wal") && bytes.is_empty());
            if !shown.ends_with(".lock") && !is_left {
                found.insert(name, bytes);
            }
        }
    }
    found
}

/// Fails with the names of what differs.
fn assert_same(found: &Content, expected: &Content, point: &Point) {
    let names = found.keys().chain(expected.keys());
    let differ: Vec<&PathBuf> = names
        .filter(|name| found.get(*name) != expected.get(*name))
        .collect();
    assert!(differ.is_empty(), "{point:?}: {differ:?}");
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir(to).unwrap();
    for (name, bytes) in content(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

struct Place<'a> {
    scene: &'a Scene,
    /// All that is written to is in here.
    folder: PathBuf,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn arguments(&self, command: &mut Command, arguments: &[&str], data: &str) {
        command
            .args(arguments)
            .arg("--data")
            .arg(self.path(data))
            .current_dir(&self.folder);
    }

    /// Runs to its end; answers whether that was well.
    fn run(&self, arguments: &[&str], data: &str) -> bool {
        let mut command = self.scene.command(&binary("journeyman-server"));
        self.arguments(&mut command, arguments, data);
        command.output().unwrap().status.success()
    }

    /// Runs until the fault, if there is to be one; answers the calls that changed the disk.
    fn traced(&self, arguments: &[&str], data: &str, fault: Option<Point>) -> Vec<Point> {
        let mut command = faults::stopped(self.scene.command(Path::new("sh")));
        command.arg(binary("journeyman-server"));
        self.arguments(&mut command, arguments, data);
        let fault = fault.map(|point| (point, Fault::Kill));
        let traced = faults::trace(command, &self.folder, fault);
        while !traced.has_ended() {
            std::thread::yield_now();
        }
        let calls = traced.calls();
        traced.wait();
        calls
    }
}

/// Some of the points, the last of each file's among them.
fn chosen(points: &[Point]) -> Vec<Point> {
    let step = points.len().div_ceil(TRIED).max(1);
    let last = points.len() - 1;
    let chosen = (0..points.len()).filter(|index| index % step == 0 || index + 6 > last);
    chosen.map(|index| points[index].clone()).collect()
}

/// A data folder that nobody uses, with something in it.
fn data(scene: &Scene, folder: &Path) {
    let releases = scene.folder("releases");
    let arguments = ["--releases", releases.to_str().unwrap()];
    let mut server = Server::start_with(scene, "work/data", &arguments);
    server.add_repo(&Repo::new(scene, "shop.repo", PIPELINES));
    server.api().wait_for_pipeline("shop");
    server.must_cli(&["users", "sign-in", "ann", "--role", "view"]);
    server.stop();
    let blob = folder.join("data/blobs/consoles/1.log");
    fs::write(blob, "not spoken of\n").unwrap();
}

#[test]
fn a_backup_that_is_killed_is_none_and_harms_nothing() {
    let scene = Scene::new("backup-killed");
    let place = Place {
        scene: &scene,
        folder: scene.folder("work"),
    };
    data(&scene, &place.folder);
    for name in ["one.tar.zst", "one"] {
        let arguments = ["backup", name];
        let points = place.traced(&arguments, "data", None);
        assert!(place.run(&["restore", name], "reference"));
        let (before, whole) = (
            content(&place.path("data")),
            content(&place.path("reference")),
        );
        assert!(
            whole.contains_key(Path::new("journeyman.db")),
            "{:?}",
            whole.keys()
        );
        let mut struck = 0;
        for point in chosen(&points) {
            for left in [name, "restored", "one.tar.zst.partial"] {
                let left = place.path(left);
                if left.is_dir() {
                    fs::remove_dir_all(left).unwrap();
                } else if left.is_file() {
                    fs::remove_file(left).unwrap();
                }
            }
            place.traced(&arguments, "data", Some(point.clone()));
            assert_same(&content(&place.path("data")), &before, &point);
            struck += usize::from(!place.path(name).exists());
            // What has the name of a backup is one, and so is what is not renamed yet, or it is refused.
            for (half, must) in [
                (name.to_owned(), place.path(name).exists()),
                (format!("{name}.partial"), false),
            ] {
                let restored = place.run(&["restore", &half], "restored");
                assert!(restored || !must, "{point:?}: {half}");
                if restored {
                    assert_same(&content(&place.path("restored")), &whole, &point);
                    fs::remove_dir_all(place.path("restored")).unwrap();
                } else {
                    assert!(!place.path("restored").exists(), "{point:?}");
                }
            }
            // What was left stands in nobody's way.
            if !place.path(name).exists() {
                assert!(place.run(&arguments, "data"), "{point:?}");
            }
            assert!(place.run(&["restore", name], "restored"), "{point:?}");
            assert_same(&content(&place.path("restored")), &whole, &point);
            fs::remove_dir_all(place.path("restored")).unwrap();
        }
        assert!(struck > 10, "only {struck} of the points came again");
        fs::remove_dir_all(place.path("reference")).unwrap();
    }
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new() {
    let scene = Scene::new("restore-killed");
    let place = Place {
        scene: &scene,
        folder: scene.folder("work"),
    };
    data(&scene, &place.folder);
    assert!(place.run(&["backup", "one.tar.zst"], "data"));
    // What is replaced has a backup of its own, which stays.
    fs::create_dir(place.path("data/backups")).unwrap();
    fs::write(place.path("data/backups/kept.tar.zst"), "a backup").unwrap();
    fs::write(place.path("data/blobs/consoles/1.log"), "later\n").unwrap();
    fs::rename(place.path("data"), place.path("earlier")).unwrap();
    let arguments = ["restore", "one.tar.zst", "--replace"];
    copy(&place.path("earlier"), &place.path("data"));
    let points = place.traced(&arguments, "data", None);
    let (old, new) = (
        content(&place.path("earlier")),
        content(&place.path("data")),
    );
    assert!(old != new);
    let kept = PathBuf::from("backups/kept.tar.zst");
    assert!(new.contains_key(&kept), "{:?}", new.keys());
    let without = |mut content: Content| {
        content.remove(&kept);
        content
    };
    let (mut olds, mut news) = (0, 0);
    for point in chosen(&points) {
        copy(&place.path("earlier"), &place.path("data"));
        place.traced(&arguments, "data", Some(point.clone()));
        let found = without(content(&place.path("data")));
        if found == without(old.clone()) {
            olds += 1;
        } else {
            assert_same(&found, &without(new.clone()), &point);
            news += 1;
        }
        // The next one finds a folder that it can replace, and the backups wherever they were.
        assert!(place.run(&arguments, "data"), "{point:?}");
        assert_same(&content(&place.path("data")), &new, &point);
        assert!(!place.path("data.restoring").exists(), "{point:?}");
    }
    assert!(olds > 5 && news > 0, "{olds} {news}");
}
