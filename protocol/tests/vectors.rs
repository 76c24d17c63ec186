//! Every document of GoCD's own serialiser is read and written back letter for letter.

#![allow(clippy::unwrap_used)]

use std::{fmt::Debug, fs, path::Path};

use journeyman_protocol::{
    artifact::{ArtifactPlan, ArtifactStore},
    builder::Builder,
    environment::EnvironmentVariableContext,
    gson,
    material::Material,
    remoting::{
        AgentInstruction, GetCookieRequest, GetWorkRequest, IsIgnoredRequest, PingRequest,
        ReportCompleteStatusRequest, ReportCurrentStatusRequest,
    },
    revision::{MaterialRevisions, Modification},
    work::{Work, find_job},
};
use pretty_assertions::assert_eq;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[test]
fn every_document_survives_reading_and_writing() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let document = fs::read_to_string(&path).unwrap();
            let written = rewrite(name, document.trim_end());
            assert_eq!(
                serde_json::from_str::<Value>(&document).unwrap(),
                serde_json::from_str::<Value>(&written).unwrap(),
                "{name}"
            );
            assert_eq!(document.trim_end(), written, "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 56);
}

#[test]
fn no_secret_is_shown() {
    let mut shown = String::new();
    for name in ["BuildWork", "FetchPluggableArtifactBuilder", "SvnMaterial"] {
        let document = read(name);
        shown += &match name {
            "BuildWork" => format!("{:?}", gson::from_str::<Work>(&document).unwrap()),
            "SvnMaterial" => format!("{:?}", gson::from_str::<Material>(&document).unwrap()),
            _ => format!("{:?}", gson::from_str::<Builder>(&document).unwrap()),
        };
    }
    for absent in ["s3cret", "tok-123", "pw", "\"p\""] {
        assert!(!shown.contains(absent), "{absent} in {shown}");
    }
    assert!(shown.contains("ci-bot"));
}

#[test]
fn the_job_is_found_in_work_that_cannot_be_read() {
    let broken = read("BuildWork").replace(r#""fetchMaterials":true"#, r#""fetchMaterials":[]"#);
    assert!(gson::from_str::<Work>(&broken).is_err());
    let job = find_job(broken.as_bytes()).unwrap();
    assert_eq!(job.locator(), "web/42/build/1/unit");
    assert_eq!(find_job(br#"{"type":"NoWork"}"#), None);
    assert_eq!(find_job(b"<html>"), None);
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name).with_extension("json")).unwrap()
}

fn rewrite(name: &str, document: &str) -> String {
    match name.split('-').next().unwrap() {
        "AgentInstruction" => through::<AgentInstruction>(document),
        "ArtifactPlan" => through::<ArtifactPlan>(document),
        "ArtifactStores" => through::<Vec<ArtifactStore>>(document),
        "EnvironmentVariableContext" => through::<EnvironmentVariableContext>(document),
        "GetCookieRequest" => through::<GetCookieRequest>(document),
        "GetWorkRequest" => through::<GetWorkRequest>(document),
        "IsIgnoredRequest" => through::<IsIgnoredRequest>(document),
        "MaterialRevisions" => through::<MaterialRevisions>(document),
        "Modification" => through::<Modification>(document),
        "PingRequest" => through::<PingRequest>(document),
        "ReportCompleteStatusRequest" => through::<ReportCompleteStatusRequest>(document),
        "ReportCurrentStatusRequest" => through::<ReportCurrentStatusRequest>(document),
        kind if kind.ends_with("Work") => through::<Work>(document),
        kind if kind.ends_with("Material") => through::<Material>(document),
        kind if kind.contains("Builder") => through::<Builder>(document),
        kind => panic!("{kind} belongs to no type"),
    }
}

fn through<T: DeserializeOwned + Serialize + Debug>(document: &str) -> String {
    let value = gson::from_str::<T>(document).unwrap();
    let shown = format!("{value:?}");
    assert!(!shown.contains("Unknown("), "not understood: {shown}");
    gson::to_string(&value).unwrap()
}
