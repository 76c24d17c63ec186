//! `kill -9` of each process at each state of an upgrade, without a word to the others.

use journeyman_tests::{
    gate::Where,
    package::Package,
    patience::wait_for,
    processes::{Role, kill_nine},
    scene::Scene,
};

use super::{Machine, is_package};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Member(Role),
    /// The new version, while it takes over.
    NewVersion,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Half of the package has come.
    Downloading,
    /// The new version was called and has not switched.
    HandedOver,
    /// The new agent is watched.
    Probation,
    /// A bad agent was gone back from.
    RolledBack,
}

const BOOTSTRAPPER: Victim = Victim::Member(Role::Bootstrapper);
const LAUNCHER: Victim = Victim::Member(Role::Launcher);
const AGENT: Victim = Victim::Member(Role::Agent);
const NEW_VERSION: Victim = Victim::NewVersion;
const SERVER: Victim = Victim::Server;

macro_rules! kills {
    ($($name:ident: $victim:ident, $state:ident;)*) => {
        $(#[test]
        fn $name() {
            kill($victim, State::$state);
        })*
    };
}

kills! {
    bootstrapper_killed_while_downloading: BOOTSTRAPPER, Downloading;
    bootstrapper_killed_while_handed_over: BOOTSTRAPPER, HandedOver;
    bootstrapper_killed_on_probation: BOOTSTRAPPER, Probation;
    bootstrapper_killed_when_rolled_back: BOOTSTRAPPER, RolledBack;

    launcher_killed_while_downloading: LAUNCHER, Downloading;
    launcher_killed_while_handed_over: LAUNCHER, HandedOver;
    launcher_killed_on_probation: LAUNCHER, Probation;
    launcher_killed_when_rolled_back: LAUNCHER, RolledBack;

    agent_killed_while_downloading: AGENT, Downloading;
    agent_killed_while_handed_over: AGENT, HandedOver;
    agent_killed_when_rolled_back: AGENT, RolledBack;

    new_version_killed_while_handed_over: NEW_VERSION, HandedOver;

    server_killed_while_downloading: SERVER, Downloading;
    server_killed_while_handed_over: SERVER, HandedOver;
    server_killed_on_probation: SERVER, Probation;
    server_killed_when_rolled_back: SERVER, RolledBack;
}

/// Killed on its probation an agent has failed it: nobody can tell who did it.
#[test]
fn agent_killed_on_probation() {
    let scene = Scene::new("kill");
    let mut machine = Machine::running(&scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "probation");
    machine.chain.kill_nine(Role::Agent);
    machine.assert_gone_back(&new, &Package::agent(1), "signal: 9");
}

fn kill(victim: Victim, state: State) {
    let scene = Scene::new("kill");
    let mut machine = Machine::running(&scene);
    let go = scene.path().join("go");
    let new = match state {
        State::HandedOver => Package::agent(2).acting_when_taking_over(&format!(
            "until [ -e '{}' ]; do sleep 0.02; done; really \"$@\"",
            go.display()
        )),
        State::RolledBack => Package::agent(2).acting_when_started("exit 3"),
        State::Downloading | State::Probation => Package::agent(2),
    };
    let hold = (state == State::Downloading).then(|| {
        machine
            .gate
            .hold(Where::Answer, |seen| is_package(&seen.path))
    });
    machine.shelf.put(&new);
    match state {
        State::Downloading => hold.as_ref().unwrap().wait_until_reached(),
        State::HandedOver => drop(machine.wait_for_state(&new, "handedOver")),
        State::Probation => drop(machine.wait_for_state(&new, "probation")),
        State::RolledBack => drop(machine.wait_for_state(&new, "rolledBack")),
    }
    match victim {
        Victim::Server => machine.server.kill_nine(),
        Victim::Member(role) => drop(machine.chain.kill_nine(role)),
        Victim::NewVersion => kill_nine(wait_for("the new version is at it", || {
            let mut all = scene.processes().into_iter();
            let new = all.find(|process| process.arguments.iter().any(|word| word == "take-over"));
            new.map(|process| process.pid)
        })),
    }
    drop(hold);
    std::fs::write(go, "").unwrap();
    // What a service manager does.
    match victim {
        Victim::Server => machine.server.start_again(),
        BOOTSTRAPPER => machine.chain.start(),
        Victim::Member(_) | Victim::NewVersion => {}
    }
    if state == State::RolledBack {
        let record = machine.record();
        machine.wait_for_questions(3);
        machine.assert_runs(&Package::agent(1));
        assert_eq!(machine.record(), record, "it is not tried again");
    } else {
        machine.wait_for_state(&new, "done");
        machine.assert_runs(&new);
    }
}
