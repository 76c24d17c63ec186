//! Every document of GoCD's own serialiser is read and written back letter for letter.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

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

/// The documents of this folder; of the one in the variable `VECTORS` instead, if that is set.
#[test]
fn every_document_survives_reading_and_writing() {
    let other = env::var_os("VECTORS").filter(|name| !name.is_empty());
    let other = other.map(PathBuf::from);
    let folder = other.as_deref().unwrap_or(folder());
    let (mut survivors, mut failures) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let document = fs::read_to_string(&path).unwrap();
            match survives(name, &document) {
                Ok(written) => {
                    survivors += 1;
                    // Ours are in GoCD's own form.
                    if other.is_none() {
                        assert_eq!(document.trim_end(), written, "{name}");
                    }
                }
                Err(reason) => failures.push(format!("{name}: {reason}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let least = if other.is_some() { 1 } else { 92 };
    assert!(survivors >= least, "{survivors} in {}", folder.display());
    println!("{survivors} messages in {}: the same", folder.display());
}

#[test]
fn a_document_that_does_not_survive_is_told() {
    let told = |name, document| survives(name, document).unwrap_err();
    assert!(told("Nonsense", "{}").contains("belongs to no type"));
    assert!(told("NoWork", "{").contains("no JSON"));
    assert!(told("NoWork", "{}").contains("cannot be read"));
    assert!(told("NoWork", r#"{"type":"Later"}"#).contains("not understood"));
    assert!(told("NoWork", r#"{"type":"NoWork","new":1}"#).contains("written back"));
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

/// What a document is after reading and writing: the same JSON value, or an error.
fn survives(name: &str, document: &str) -> Result<String, String> {
    let value = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| format!("it is no JSON: {error}"))
    };
    let expected = value(document)?;
    let written = rewrite(name, document)?;
    if value(&written)? == expected {
        return Ok(written);
    }
    Err(format!(
        "written back it is different:\n- {}\n+ {written}",
        document.trim_end()
    ))
}

fn rewrite(name: &str, document: &str) -> Result<String, String> {
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
        kind => Err(format!(
            "{kind} belongs to no type that this test knows; its table `rewrite` says which do"
        )),
    }
}

fn through<T: DeserializeOwned + Serialize + Debug>(document: &str) -> Result<String, String> {
    let value =
        gson::from_str::<T>(document).map_err(|error| format!("it cannot be read: {error}"))?;
    let shown = format!("{value:?}");
    if shown.contains("Unknown(") {
        return Err(format!("it was not understood: {shown}"));
    }
    gson::to_string(&value).map_err(|error| format!("it cannot be written: {error}"))
}
