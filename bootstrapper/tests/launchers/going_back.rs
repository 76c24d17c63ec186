//! The real bootstrapper with shell scripts for launchers: which one runs in the end.

use std::fs;

use crate::scene::{LIVES, Scene, script};

/// What a launcher says of itself: that it has worked at once.
const AT_ONCE: &str = "well-after-ms: 0\n";

#[test]
fn a_launcher_that_crashes_at_its_start_is_gone_back_from() {
    let scene = Scene::new();
    let good = scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    let new = scene.write("journeyman-launcher", &script("new", "kill -9 $$", ""));
    let bootstrapper = scene.start();
    scene.wait_for_run("good");
    assert_eq!(scene.runs(), ["new", "new", "new", "good"]);
    assert_eq!(scene.read("journeyman-launcher"), good);
    assert_eq!(scene.read("journeyman-launcher.good"), good);
    assert_eq!(scene.read("journeyman-launcher.bad"), new);
    assert!(scene.log().contains("going back"), "{}", scene.log());
    bootstrapper.stop();
    scene.assert_nothing_left_behind();
}

#[test]
fn a_launcher_that_cannot_be_executed_is_gone_back_from() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    let foreign = [b"#!/no/such/interpreter\n", &*script("new", "", "")].concat();
    scene.write("journeyman-launcher", &foreign);
    let bootstrapper = scene.start();
    scene.wait_for_run("good");
    assert_eq!(scene.read("journeyman-launcher.bad"), foreign);
    bootstrapper.stop();
}

#[test]
fn a_launcher_that_crashes_after_it_has_worked_is_kept() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    // Works the first time, says so, and crashes from then on.
    let new = script("new", "[ $(wc -l < runs) = 1 ] && exit 61\nkill -9 $$", "");
    scene.write("journeyman-launcher", &new);
    let bootstrapper = scene.start();
    scene.wait_for("four starts", || scene.runs().len() >= 4);
    assert!(scene.runs().iter().all(|name| name == "new"));
    assert_eq!(scene.read("journeyman-launcher.good"), new);
    assert_eq!(scene.read("journeyman-launcher"), new);
    bootstrapper.stop();
    assert!(!scene.has("journeyman-launcher.bad"));
}

#[test]
fn a_launcher_is_kept_while_it_runs_and_as_it_was_when_it_started() {
    let scene = Scene::new();
    let first = script(
        "first",
        &format!("echo next > journeyman-launcher\n{LIVES}"),
        AT_ONCE,
    );
    scene.write("journeyman-launcher", &first);
    let bootstrapper = scene.start();
    scene.wait_for("the copy", || scene.has("journeyman-launcher.good"));
    assert_eq!(scene.read("journeyman-launcher.good"), first);
    bootstrapper.stop();
    scene.assert_nothing_left_behind();
}

#[test]
fn a_launcher_that_gives_up_at_its_first_start_is_gone_back_from() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    scene.write("journeyman-launcher", &script("new", "exit 64", ""));
    let bootstrapper = scene.start();
    scene.wait_for_run("good");
    assert_eq!(scene.runs(), ["new", "good"]);
    bootstrapper.stop();
}

#[test]
fn the_only_launcher_may_give_up() {
    let scene = Scene::new();
    scene.write("journeyman-launcher", &script("only", "exit 64", ""));
    assert_eq!(scene.start().end().code(), Some(64));

    // So may the good one itself.
    fs::rename(
        scene.path("journeyman-launcher"),
        scene.path("journeyman-launcher.good"),
    )
    .unwrap();
    assert_eq!(scene.start().end().code(), Some(64));
    assert!(!scene.has("journeyman-launcher.bad"));
}

#[test]
fn a_file_that_is_cut_off_is_gone_back_from() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    let new = script("new", LIVES, "");
    for length in [0, 10, new.len() - 1] {
        scene.write("journeyman-launcher", &new[..length]);
        let bootstrapper = scene.start();
        scene.wait_for_run("good");
        assert_eq!(scene.runs(), ["good"]);
        assert_eq!(scene.read("journeyman-launcher.bad"), &new[..length]);
        bootstrapper.stop();
        fs::remove_file(scene.path("runs")).unwrap();
    }
}

#[test]
fn without_a_good_one_the_carried_one_is_used() {
    let scene = Scene::new();
    scene.write("journeyman-launcher", b"cut off");
    let bootstrapper = scene.start();
    scene.wait_for_run("carried");
    assert_eq!(scene.read("journeyman-launcher.corrupt"), b"cut off");
    assert!(!scene.has("journeyman-launcher.bad"));
    bootstrapper.stop();
}

#[test]
fn when_the_good_one_is_damaged_the_carried_one_is_used() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", b"damaged");
    scene.write("journeyman-launcher", &script("new", "exit 64", ""));
    let bootstrapper = scene.start();
    scene.wait_for_run("carried");
    assert_eq!(scene.read("journeyman-launcher.corrupt"), b"damaged");
    assert!(!scene.has("journeyman-launcher.good"));
    bootstrapper.stop();
}

#[test]
fn a_missing_launcher_is_restored() {
    let scene = Scene::new();
    let good = scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    let bootstrapper = scene.start();
    scene.wait_for_run("good");
    assert_eq!(scene.read("journeyman-launcher"), good);
    bootstrapper.stop();

    for name in ["journeyman-launcher", "journeyman-launcher.good"] {
        fs::remove_file(scene.path(name)).unwrap();
    }
    let bootstrapper = scene.start();
    scene.wait_for_run("carried");
    bootstrapper.stop();
}

#[test]
fn a_launcher_that_replaces_itself_for_ever_is_gone_back_from() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    scene.write("journeyman-launcher", &script("new", "exit 60", ""));
    let bootstrapper = scene.start();
    scene.wait_for_run("good");
    assert_eq!(scene.runs().len(), 3 * 6 + 1);
    bootstrapper.stop();
}

#[test]
fn a_launcher_that_was_replaced_meanwhile_is_not_blamed_for_the_one_before() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    let newer = scene.write("newer", &script("newer", LIVES, ""));
    scene.write(
        "journeyman-launcher",
        &script("new", "mv newer journeyman-launcher\nexit 64", ""),
    );
    let bootstrapper = scene.start();
    scene.wait_for_run("newer");
    assert_eq!(scene.read("journeyman-launcher"), newer);
    assert!(!scene.has("journeyman-launcher.bad"));
    bootstrapper.stop();
}

#[test]
fn a_second_bootstrapper_in_the_folder_blames_no_launcher() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    // As a launcher that finds the folder locked.
    let new = script(
        "new",
        &format!("[ $(wc -l < runs) = 1 ] || exit 73\n{LIVES}"),
        "",
    );
    scene.write("journeyman-launcher", &new);
    let first = scene.start();
    scene.wait_for_run("new");
    assert_eq!(scene.start().end().code(), Some(73));
    assert_eq!(scene.read("journeyman-launcher"), new);
    first.stop();
}

#[test]
fn to_be_asked_to_stop_is_no_death() {
    let scene = Scene::new();
    scene.write("journeyman-launcher.good", &script("good", LIVES, ""));
    // Gives up when it is asked to stop.
    let new = script(
        "new",
        "trap 'exit 64' TERM\nexec 3<&0\necho > ready\ncat <&3 > /dev/null &\nwait",
        "",
    );
    scene.write("journeyman-launcher", &new);
    let bootstrapper = scene.start();
    scene.wait_for("the trap", || scene.has("ready"));
    bootstrapper.stop();
    assert_eq!(scene.read("journeyman-launcher"), new);
}
