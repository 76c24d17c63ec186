//! What a reader puts up with, and what it does not.

use journeyman_protocol::{
    agent::{AgentRuntimeInfo, RuntimeStatus},
    artifact::{ArtifactPlan, ArtifactPlanType},
    builder::{Builder, BuilderAttributes, CommandBuilder, RunIf},
    environment::{EnvironmentVariable, SecretParam},
    fetch::FetchHandler,
    gson,
    job::{JobIdentifier, JobResult},
    material::{GitMaterial, Material},
    registration::RegistrationForm,
    remoting::{
        AgentInstruction, PingRequest, ReportCompleteStatusRequest, read_cookie, read_is_ignored,
    },
    revision::Modification,
    secret::Secret,
    work::{Work, find_job},
};
use pretty_assertions::assert_eq;
use proptest::{prelude::*, sample::Index};
use serde_json::json;

#[test]
fn absent_null_and_unknown_members_are_no_errors() {
    let job: JobIdentifier =
        gson::from_str(r#"{"pipelineName":null,"buildId":null,"stageName":"build","new":[1]}"#)
            .unwrap();
    let expected = JobIdentifier {
        stage_name: "build".to_owned(),
        ..JobIdentifier::default()
    };
    assert_eq!(job, expected);
}

#[test]
fn type_may_stand_anywhere() {
    let Ok(Builder::CommandBuilder(builder)) =
        gson::from_str(r#"{"command":"make","type":"CommandBuilder","args":"all"}"#)
    else {
        panic!("not a command");
    };
    let expected = CommandBuilder {
        command: "make".to_owned(),
        args: "all".to_owned(),
        ..CommandBuilder::default()
    };
    assert_eq!(builder, expected);
    assert_eq!(builder.attributes.exit_code, -1);
}

#[test]
fn a_missing_type_is_an_error() {
    for document in [
        "{}",
        r#"{"type":null}"#,
        r#"{"type":1}"#,
        "[]",
        "\"NoWork\"",
    ] {
        assert!(gson::from_str::<Work>(document).is_err(), "{document}");
        assert!(gson::from_str::<Material>(document).is_err(), "{document}");
        let ping = format!(r#"{{"agentRuntimeInfo":{document}}}"#);
        assert!(gson::from_str::<PingRequest>(&ping).is_err(), "{document}");
    }
    assert!(gson::from_str::<AgentRuntimeInfo>(r#"{"type":"Other"}"#).is_err());
}

#[test]
fn the_outer_type_of_a_request_is_not_looked_at() {
    for outer in ["", r#""type":"PingRequest","#, r#""type":"Other","#] {
        let document = format!(r#"{{{outer}"agentRuntimeInfo":{{"type":"AgentRuntimeInfo"}}}}"#);
        let ping: PingRequest = gson::from_str(&document).unwrap();
        assert_eq!(ping.agent_runtime_info, AgentRuntimeInfo::default());
    }
}

#[test]
fn an_unknown_kind_is_kept_and_written_back() {
    let document = r#"{"type":"Later","b":{"z":1,"a":"x"},"a":2}"#;
    let work: Work = gson::from_str(document).unwrap();
    let builder: Builder = gson::from_str(document).unwrap();
    let material: Material = gson::from_str(document).unwrap();
    let handler: FetchHandler = gson::from_str(document).unwrap();

    assert_eq!(gson::to_string(&work).unwrap(), document);
    assert_eq!(gson::to_string(&builder).unwrap(), document);
    assert_eq!(gson::to_string(&material).unwrap(), document);
    assert_eq!(gson::to_string(&handler).unwrap(), document);

    assert_eq!((builder.kind(), material.kind()), ("Later", "Later"));
    assert_eq!((builder.attributes(), material.attributes()), (None, None));
    let shown = format!("{work:?}");
    assert!(shown.contains("Later") && !shown.contains('x'), "{shown}");
}

#[test]
fn an_unknown_builder_does_not_spoil_the_work() {
    let document = r#"{"type":"BuildWork","assignment":{"builders":[{"type":"Later"}]}}"#;
    let Ok(Work::BuildWork(work)) = gson::from_str(document) else {
        panic!("not a job");
    };
    assert_eq!(work.assignment.builders[0].kind(), "Later");
    assert_eq!(work.console_log_charset, "UTF-8");
    assert!(!work.assignment.fetch_materials);
}

#[test]
fn an_error_names_the_kind_it_is_in() {
    let error = gson::from_str::<Work>(
        r#"{"type":"BuildWork","assignment":{"builders":[{"type":"CommandBuilder","args":[]}]}}"#,
    );
    let message = error.unwrap_err().to_string();
    assert!(message.contains("BuildWork: CommandBuilder: "), "{message}");
}

#[test]
fn a_name_no_enum_has_is_unknown() {
    let report: ReportCompleteStatusRequest = gson::from_str(
        r#"{"agentRuntimeInfo":{"type":"AgentRuntimeInfo","runtimeStatus":"Asleep"},
            "jobIdentifier":{},"jobResult":"passed"}"#,
    )
    .unwrap();
    assert_eq!(report.job_result, JobResult::Unknown);
    assert_eq!(
        report.agent_runtime_info.runtime_status,
        RuntimeStatus::Unknown
    );

    let plan: ArtifactPlan = gson::from_str(r#"{"artifactPlanType":"FILE"}"#).unwrap();
    assert_eq!(plan.artifact_plan_type, ArtifactPlanType::Unknown);

    let instruction: AgentInstruction = gson::from_str(r#""DANCE""#).unwrap();
    assert_eq!(instruction, AgentInstruction::None);
}

#[test]
fn bare_answers_are_read_quoted_or_not() {
    assert_eq!(read_cookie("c-1"), Some(Secret::from("c-1")));
    assert_eq!(read_cookie("\"c-1\"\n"), Some(Secret::from("c-1")));
    assert_eq!(read_cookie(" "), None);
    assert_eq!(
        AgentInstruction::read("\"CANCEL\""),
        AgentInstruction::Cancel
    );
    assert_eq!(
        AgentInstruction::read("KILL_RUNNING_TASKS"),
        AgentInstruction::KillRunningTasks
    );
    assert_eq!(AgentInstruction::read(""), AgentInstruction::None);
    assert_eq!(read_is_ignored("true"), Some(true));
    assert_eq!(read_is_ignored("false\n"), Some(false));
    assert_eq!(read_is_ignored("maybe"), None);
}

#[test]
fn run_if_goes_by_the_result_so_far() {
    use JobResult::{Cancelled, Failed, Passed};
    let allows = |conditions: &[RunIf]| {
        [Passed, Failed, Cancelled].map(|result| RunIf::allows(conditions, result))
    };
    assert_eq!(allows(&[]), [true, false, false]);
    assert_eq!(allows(&[RunIf::Passed]), [true, false, false]);
    assert_eq!(allows(&[RunIf::Failed]), [false, true, false]);
    assert_eq!(allows(&[RunIf::Passed, RunIf::Failed]), [true, true, false]);
    assert_eq!(allows(&[RunIf::Any]), [true, true, true]);
    assert_eq!(allows(&[RunIf::Unknown]), [false, false, false]);
}

#[test]
fn both_slashes_of_a_path_are_read() {
    let builder: CommandBuilder =
        gson::from_str(r#"{"workingDir":{"path":"pipelines\\web/sub"}}"#).unwrap();
    assert_eq!(builder.working_dir.to_str(), Some("pipelines/web/sub"));
}

#[test]
fn dates_are_written_with_as_few_groups_of_digits_as_will_do() {
    for (read, written) in [
        ("2026-08-01T10:11:12Z", Some("2026-08-01T10:11:12Z")),
        ("2026-08-01T10:11:12.5Z", Some("2026-08-01T10:11:12.500Z")),
        (
            "2026-08-01T10:11:12.0001Z",
            Some("2026-08-01T10:11:12.000100Z"),
        ),
        (
            "2026-08-01T10:11:12.123456789Z",
            Some("2026-08-01T10:11:12.123456789Z"),
        ),
        ("yesterday", None),
    ] {
        let modification: Modification =
            serde_json::from_value(json!({ "modifiedTime": read })).unwrap();
        let document = serde_json::to_value(modification).unwrap();
        assert_eq!(
            document.get("modifiedTime").and_then(|date| date.as_str()),
            written
        );
    }
}

#[test]
fn each_secret_param_replaces_its_own_reference() {
    let param = |key: &str, value: &str| SecretParam {
        secret_config_id: "vault".to_owned(),
        key: key.to_owned(),
        value: Some(value.into()),
        resolved: true,
    };
    let variable = EnvironmentVariable {
        secret_params: vec![param("db", "one"), param("mq", "two"), param("db", "three")],
        ..EnvironmentVariable::secure(
            "V",
            "{{SECRET:[vault][db]}}:{{SECRET:[vault][mq]}}:{{SECRET:[vault][db]}}:{{SECRET:[x][y]}}",
        )
    };
    assert_eq!(
        variable.resolved_value().as_deref(),
        Some("one:two:three:{{SECRET:[x][y]}}")
    );
    let shown = format!("{variable:?}");
    assert!(
        !shown.contains("one") && !shown.contains("vault]"),
        "{shown}"
    );
    assert_eq!(EnvironmentVariable::default().resolved_value(), None);
}

#[test]
fn a_password_may_be_a_reference_too() {
    let document = r#"{"type":"GitMaterial","url":{"url":"https://u:topsecret@h/r"},
        "password":"{{SECRET:[vault][git]}}","secretParamsForPassword":
        [{"secretConfigId":"vault","key":"git","value":"s3cret","resolved":true}]}"#;
    let material: Material = gson::from_str(document).unwrap();
    let password = material.scm().unwrap().resolved_password();
    assert_eq!(password, Some(Secret::from("s3cret")));
    let shown = format!("{material:?}");
    assert!(
        !shown.contains("topsecret") && !shown.contains("s3cret"),
        "{shown}"
    );
}

#[test]
fn what_is_made_here_reads_like_what_gocd_makes() {
    let task = Builder::CommandBuilder(CommandBuilder {
        command: "make".to_owned(),
        args: "clean all".to_owned(),
        working_dir: "pipelines/web/sub".into(),
        error_string: String::new(),
        attributes: BuilderAttributes::described("make clean all"),
    });
    let vector = include_str!("vectors/CommandBuilder.json").trim_end();
    assert_eq!(gson::to_string(&task).unwrap(), vector);

    let git = Material::GitMaterial(GitMaterial::new("https://git.example.com/x", "master"));
    let vector = include_str!("vectors/GitMaterial-minimal.json").trim_end();
    assert_eq!(gson::to_string(&git).unwrap(), vector);
}

#[test]
fn the_form_has_gocds_field_names() {
    let form = serde_json::to_value(RegistrationForm::default()).unwrap();
    let names: Vec<&String> = form.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "hostname",
            "uuid",
            "location",
            "usablespace",
            "operatingSystem",
            "agentAutoRegisterKey",
            "agentAutoRegisterResources",
            "agentAutoRegisterEnvironments",
            "agentAutoRegisterHostname",
            "elasticAgentId",
            "elasticPluginId",
            "token"
        ]
    );
    assert!(serde_json::from_value::<RegistrationForm>(json!({ "uuid": "u" })).is_err());
}

#[test]
fn cancel_tasks_may_be_nested_as_deep_as_json_may() {
    let nested = |depth: usize| {
        let open = r#"{"type":"NullBuilder","cancelBuilder":"#;
        format!(
            "{}{{\"type\":\"NullBuilder\"}}{}",
            open.repeat(depth),
            "}".repeat(depth)
        )
    };
    assert!(gson::from_str::<Builder>(&nested(126)).is_ok());
    assert!(gson::from_str::<Builder>(&nested(1_000_000)).is_err());
}

proptest! {
    #[test]
    fn damaged_work_is_an_error_or_work(at in any::<Index>(), byte in any::<u8>()) {
        let mut document = include_bytes!("vectors/BuildWork.json").to_vec();
        let at = at.index(document.len());
        document[at] = byte;
        let _ = gson::from_slice::<Work>(&document);
        let _ = gson::from_slice::<Work>(&document[..at]);
        let _ = find_job(&document);
    }
}
