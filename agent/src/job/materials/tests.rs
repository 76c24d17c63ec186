//! Several materials of one job, and those that this agent has no program for.

use std::{fs, os::unix::fs::symlink, path::Path};

use journeyman_protocol::{
    material::{HgMaterial, Material, SvnMaterial, UrlArgument},
    revision::MaterialRevisions,
};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{
    testing::{Bench, run},
    unsupported, variables,
};

fn hg(url: &Path, folder: Option<&str>) -> Material {
    let mut material = HgMaterial {
        url: UrlArgument::from(url.display().to_string()),
        ..HgMaterial::default()
    };
    material.scm.folder = folder.map(str::to_owned);
    Material::HgMaterial(material)
}

fn svn(url: String, folder: &str) -> Material {
    let mut material = SvnMaterial {
        url: UrlArgument::from(url),
        ..SvnMaterial::default()
    };
    material.scm.folder = Some(folder.to_owned());
    Material::SvnMaterial(material)
}

#[test]
fn a_link_that_one_material_brings_leads_no_other_one_out() {
    let bench = Bench::new();
    let (repo, outside) = (bench.path("repo"), bench.path("outside"));
    fs::create_dir_all(outside.join("lib/.svn")).unwrap();
    run(&bench.path(""), &["hg", "init", "repo"]);
    symlink(&outside, repo.join("out")).unwrap();
    run(&repo, &["hg", "commit", "-q", "-A", "-m", "1"]);
    run(&bench.path(""), &["svnadmin", "create", "svn"]);
    let url = format!("file://{}", bench.path("svn").display());

    for (first, second) in [
        (None, "out/lib"),
        (None, "out"),
        (None, "../P2"),
        (None, "out/../P2"),
        (Some("code"), "code/out/lib"),
        (Some("code"), "code/out"),
        (Some("code"), "code/../../P2"),
    ] {
        let materials = [
            (hg(&repo, first), "0".to_owned()),
            (svn(url.clone(), second), "0".to_owned()),
        ];
        // The second time what the first has left is there from the start.
        for _ in 0..2 {
            let error = bench.update(materials.clone()).unwrap_err().to_string();
            assert!(
                error.contains("is outside the base folder pipelines/P"),
                "{second}: {error}"
            );
        }
        assert!(outside.join("lib/.svn").is_dir(), "{second}");
        assert!(!bench.path("agent/pipelines/P2").exists(), "{second}");
        assert!(!bench.path("P2").exists(), "{second}");
        fs::remove_dir_all(bench.base()).unwrap();
        fs::create_dir(bench.base()).unwrap();
    }
}

#[test]
fn what_needs_a_jvm_is_named_with_the_reason() {
    let material = |json| serde_json::from_value::<Material>(json).unwrap();
    let scm = json!({
        "type": "PluggableSCMMaterial", "scmId": "scm-1",
        "scm": { "id": "scm-1", "plugin": { "id": "github.pr", "version": "1" } },
    });
    let table = [
        (
            scm,
            "PluggableSCMMaterial: it needs the plugin `github.pr`, and plugins run in GoCD's Java \
             agent only.",
        ),
        (
            json!({ "type": "PluggableSCMMaterial", "scmId": "scm-1" }),
            "PluggableSCMMaterial: it needs the plugin of the SCM `scm-1`, and plugins run in \
             GoCD's Java agent only.",
        ),
        (
            json!({ "type": "TfsMaterial" }),
            "TfsMaterial: it needs Microsoft's TFS library for Java, which only GoCD's Java agent \
             has.",
        ),
        (
            json!({ "type": "CvsMaterial" }),
            "CvsMaterial: this version of the agent does not know it.",
        ),
    ];
    for (json, expected) in table {
        assert_eq!(
            unsupported(&material(json)).unwrap(),
            format!("[go] This agent cannot check out a material of the kind {expected}")
        );
    }
    for kind in [
        "GitMaterial",
        "HgMaterial",
        "SvnMaterial",
        "P4Material",
        "DependencyMaterial",
        "PackageMaterial",
    ] {
        assert_eq!(unsupported(&material(json!({ "type": kind }))), None);
    }
}

#[test]
fn each_perforce_material_has_a_variable() {
    let revisions: MaterialRevisions = serde_json::from_value(json!({ "revisions": [
        { "material": { "type": "P4Material" } },
        { "material": { "type": "P4Material", "folder": "a/b-c" } },
        { "material": { "type": "P4Material", "folder": "d", "name": { "name": "Depot 1" } } },
        { "material": { "type": "GitMaterial" } },
    ] }))
    .unwrap();
    let variables = variables(&revisions, Path::new("/srv/pipelines/P"), "h");
    let shown: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.rsplit_once('-').unwrap().0))
        .collect();
    assert_eq!(
        shown,
        [
            ("GO_P4_CLIENT", "cruise-h-P"),
            ("GO_P4_CLIENT_A_B_C", "cruise-h-b-c"),
            ("GO_P4_CLIENT_DEPOT_1", "cruise-h-d"),
        ]
    );
}
