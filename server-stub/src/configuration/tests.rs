use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use clap::{ArgMatches, Args as _, Command};
use pretty_assertions::assert_eq;
use secrecy::ExposeSecret as _;

use super::{layers, *};

fn flags(given: &[&str]) -> ArgMatches {
    let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
    without_environment(command)
        .try_get_matches_from(given)
        .unwrap()
}

fn set(
    given: &[&str],
    environment: &[(&str, &str)],
    folder: &Path,
) -> Result<Effective, Vec<String>> {
    let mut environment: BTreeMap<&str, OsString> = environment
        .iter()
        .map(|(name, value)| (*name, OsString::from(value)))
        .collect();
    environment
        .entry("JOURNEYMAN_DATA")
        .or_insert_with(|| folder.into());
    effective(&flags(given), |name| environment.get(name).cloned()).map_err(|problems| {
        let shown = problems.iter().map(ToString::to_string);
        shown
            .map(|text| text.replace(&format!("{}/", folder.display()), ""))
            .collect()
    })
}

fn folder(file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("server.toml"), file).unwrap();
    folder
}

fn origin(effective: &Effective, name: &str) -> String {
    let shown = effective.shown();
    let (_, _, origin) = shown.iter().find(|(one, _, _)| one == name).unwrap();
    origin.to_string()
}

#[test]
fn each_setting_is_a_flag_a_variable_and_a_key_of_the_same_name() {
    let command = Settings::augment_args(Command::new("serve"));
    let known: Vec<_> = command.get_arguments().collect();
    for arg in &known {
        let name = arg.get_long().expect("every setting has a flag");
        let variable = layers::variable(name);
        assert_eq!(arg.get_env().unwrap().to_str(), Some(variable.as_str()));
        assert!(arg.get_help().is_some(), "{name} has no help");
    }
    let secrets = layers::secrets(&known);
    assert!(!secrets.is_empty());
    for secret in secrets {
        let file = format!("{secret}-file");
        assert!(
            known
                .iter()
                .any(|arg| arg.get_long() == Some(file.as_str())),
            "{secret} has no {file}"
        );
        let arg = known.iter().find(|arg| arg.get_long() == Some(secret));
        assert!(
            arg.unwrap().is_hide_env_values_set(),
            "help shows the value of {secret}"
        );
    }
}

#[test]
fn a_flag_is_over_a_variable_over_the_file_over_the_default() {
    let folder = folder("agent-timeout = 1\nrepository-interval = 2\nmaterial-interval = 3\n");
    let effective = set(
        &["--agent-timeout", "11"],
        &[
            ("JOURNEYMAN_AGENT_TIMEOUT", "21"),
            ("JOURNEYMAN_REPOSITORY_INTERVAL", "22"),
            ("JOURNEYMAN_LOG", ""),
            ("RUST_LOG", "debug"),
        ],
        folder.path(),
    )
    .unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.agent_timeout, 11);
    assert_eq!(settings.repository_interval, 22);
    assert_eq!(settings.material_interval, 3);
    assert_eq!(settings.certificate_days, 90);
    assert_eq!(settings.log, "debug");
    assert_eq!(origin(&effective, "agent-timeout"), "flag");
    assert_eq!(
        origin(&effective, "repository-interval"),
        "environment JOURNEYMAN_REPOSITORY_INTERVAL"
    );
    assert!(origin(&effective, "material-interval").ends_with("server.toml:3"));
    assert_eq!(origin(&effective, "certificate-days"), "default");
}

#[test]
fn every_kind_of_value_can_be_in_the_file() {
    let folder = folder(
        "# a comment\nlisten = \"::1\"\nhttp-port = 0x10\nhostname = [\"a\", \"b\"]\nno-login = true\n\
         site-url = \"https://ci.example\"\nlog-format = \"json\"\nreleases = \"packages\"\nretention-days = 30\n",
    );
    let effective = set(&[], &[], folder.path()).unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.listen.to_string(), "::1");
    assert_eq!(settings.http_port, Some(16));
    assert_eq!(settings.hostname, ["a", "b"]);
    assert!(settings.no_login);
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.releases, Some(folder.path().join("packages")));
    let configuration = effective.configuration().unwrap();
    assert_eq!(configuration.retention.age, Some(30 * DAY));
    assert_eq!(configuration.retention.runs, None);
    // What a flag of the kind "yes or no" says is over the file as well.
    let effective = set(&["--no-login=false"], &[], folder.path()).unwrap();
    assert!(!effective.settings.no_login);
}

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let folder = folder(
        "http-prot = 8153\nhttp-port = \"8153\"\n  https-port = 99999\nlisten = [\"::1\"]\n\n[retention]\ndays = 3\n",
    );
    let problems = set(
        &[],
        &[
            ("JOURNEYMAN_AGENT_TIMEOUT", "soon"),
            ("JOURNEYMAN_SITE_URL", "ci.example"),
        ],
        folder.path(),
    )
    .unwrap_err();
    let mut expected = [
        "the environment variable JOURNEYMAN_AGENT_TIMEOUT: agent-timeout: invalid value 'soon' for \
         '--agent-timeout <SECONDS>': invalid digit found in string",
        "the environment variable JOURNEYMAN_SITE_URL: site-url: invalid value 'ci.example' for '--site-url <URL>': \
         relative URL without a base",
        "server.toml:1:1: http-prot: there is no such setting; the nearest is http-port",
        "server.toml:2:13: http-port: expected a number, found a string",
        "server.toml:3:3: https-port: invalid value '99999' for '--https-port <PORT>': 99999 is not in 0..=65535",
        "server.toml:4:10: listen: expected a string, found a list",
        "server.toml:6:2: retention: there is no such setting; the nearest is retention-days",
    ]
    .map(str::to_owned);
    let mut problems = problems;
    problems.sort();
    expected.sort();
    assert_eq!(problems, expected);
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_place() {
    let folder = folder("http-port = 1\nlisten = \nhttp-port = 2\n");
    let problems = set(&[], &[], folder.path()).unwrap_err();
    assert!(
        problems
            .iter()
            .any(|one| one.starts_with("server.toml:2:10: ")),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|one| one.starts_with("server.toml:3:1: ")),
        "{problems:?}"
    );
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let problems = set(&["--config", path.to_str().unwrap()], &[], folder.path()).unwrap_err();
    assert!(problems[0].starts_with("cannot read the configuration file none.toml: "));
    assert!(set(&[], &[], folder.path()).is_ok());
}

#[test]
fn a_file_cannot_be_in_the_folder_it_leads_away_from() {
    let folder = folder("data = \"elsewhere\"\n");
    let problems = set(&[], &[], folder.path()).unwrap_err();
    assert!(
        problems[0].starts_with("server.toml:1:1: data: "),
        "{problems:?}"
    );
    let path = folder.path().join("server.toml");
    let effective = effective(&flags(&["--config", path.to_str().unwrap()]), |_| None).unwrap();
    assert_eq!(effective.settings.data, folder.path().join("elsewhere"));
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let folder = folder("auto-register-key-file = \"key\"\nwebhook-secret = \"of the file\"\n");
    fs::write(folder.path().join("key"), "of a file\n").unwrap();
    let effective = set(&[], &[], folder.path()).unwrap();
    let key = effective.auto_register_key().unwrap().unwrap();
    assert_eq!(key.expose_secret(), "of a file");
    let shown = format!("{:?} {effective:?}", effective.shown());
    assert!(!shown.contains("of the file"), "{shown}");

    // The stronger of the two counts; of two that are as strong, nobody can tell.
    let variable = [("JOURNEYMAN_AUTO_REGISTER_KEY", "of a variable")];
    let effective = set(&[], &variable, folder.path()).unwrap();
    let key = effective.auto_register_key().unwrap().unwrap();
    assert_eq!(key.expose_secret(), "of a variable");
    let both = [variable[0], ("JOURNEYMAN_AUTO_REGISTER_KEY_FILE", "x")];
    let problems = set(&[], &both, folder.path()).unwrap_err();
    assert_eq!(
        problems,
        [
            "auto-register-key and auto-register-key-file are both set (environment JOURNEYMAN_AUTO_REGISTER_KEY): \
             leave one out"
        ]
    );
    let missing = [("JOURNEYMAN_ADMIN_PASSWORD_FILE", "/nonexistent")];
    let effective = set(&[], &missing, folder.path()).unwrap();
    assert!(effective.admin_password().is_err());
    assert_eq!(effective.unreadable().len(), 1);
}

#[test]
fn what_can_be_told_of_a_provider_without_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "s\n").unwrap();
    let secret = format!(
        "--oidc-client-secret-file={}",
        folder.path().join("secret").display()
    );
    let issuer = "--oidc-issuer=https://idp.example/realm";
    let wrong = |given: &[&str]| match set(given, &[], folder.path()) {
        Ok(effective) => effective
            .unreadable()
            .iter()
            .map(ToString::to_string)
            .collect(),
        Err(problems) => problems,
    };
    let table: [(&[&str], &str); 6] = [
        (&["--oidc-client-id=x"], "oidc-issuer is missing"),
        (&[secret.as_str()], "oidc-issuer is missing"),
        (&[issuer], "oidc-client-id is missing"),
        (&[issuer, "--oidc-client-id=x", "--no-login"], "both set"),
        (
            &[
                issuer,
                "--oidc-client-id=x",
                "--oidc-client-secret-file=/nonexistent",
            ],
            "cannot read",
        ),
        (&[], ""),
    ];
    for (given, expected) in table {
        let found = wrong(given);
        assert_eq!(
            found.len(),
            usize::from(!expected.is_empty()),
            "{given:?}: {found:?}"
        );
        assert!(
            found.iter().all(|one| one.contains(expected)),
            "{given:?}: {found:?}"
        );
    }
    for bad in [
        "http://idp.example",
        "https://idp.example?x",
        "idp.example",
        "https://a@b",
    ] {
        assert!(provider::issuer(bad).is_err(), "{bad}");
    }
    assert!(provider::issuer("http://127.0.0.1:9000").is_ok());
    for bad in ["ops", "=admin", "ops=root"] {
        assert!(bad.parse::<GroupRole>().is_err(), "{bad}");
    }
    let given = [
        issuer,
        "--oidc-client-id=x",
        &secret,
        "--oidc-role=cn=ops=operate:web,all=view",
    ];
    let effective = set(&given, &[], folder.path()).unwrap();
    let provider = effective.configuration().unwrap().provider.unwrap();
    assert_eq!(provider.name, "idp.example");
    assert_eq!(provider.scopes, ["profile", "email"]);
    assert_eq!(provider.new_users, NewUsers::Refuse);
    assert_eq!(provider.client_secret.unwrap().expose_secret(), "s");
    let roles: Vec<String> = provider.roles.iter().map(ToString::to_string).collect();
    assert_eq!(roles, ["cn=ops=operate:web", "all=view"]);
}
