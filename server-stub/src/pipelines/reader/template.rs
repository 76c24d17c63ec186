//! Templates: stages that pipelines share, with the values of each pipeline's own parameters.
//!
//! GoCD has them in the server's configuration, and its format for files has no place for them.
//! Here they stand in files of their own, which GoCD's patterns pass over, so that the same
//! repository serves both. A template is known to every repository of the server, as GoCD's are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::parameters::Parameters;
use super::section::{Place, Problem, Report};
use super::{Found, Home, Source, read_version, stage};
use crate::pipelines::definition::Stage;
use crate::pipelines::names;
use crate::pipelines::yaml::{self, Node, Value};

/// Nodes and bytes of text that all pipelines of a revision may take from templates: a few words in
/// many pipelines can stand for a large template each.
const MAX_NODES: usize = 500_000;
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Whether a file of this name holds templates.
#[must_use]
pub fn is_template_file(name: &str) -> bool {
    name.ends_with(".gocd-templates.yaml") || name.ends_with(".gocd-templates.yml")
}

/// The templates of other repositories.
#[derive(Clone, Debug)]
pub enum Others {
    /// Nobody is there to tell: a template that is not found may exist.
    Unknown,
    /// Their files, each named with its repository. They were good when they were taken over.
    Known(Vec<Source>),
}

/// All templates that pipelines of a revision can use.
pub(super) struct Templates {
    by_name: HashMap<String, Template>,
    others_are_known: bool,
    nodes: usize,
    bytes: usize,
}

struct Template {
    file: String,
    line: usize,
    path: String,
    version: u32,
    stages: Arc<Node>,
}

impl Templates {
    /// Reads the files that hold templates: the revision's own among `files`, and the others'.
    pub(super) fn read(
        files: &[Source],
        home: &Home,
        found: &mut Found,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) -> Self {
        let mut templates = Self {
            by_name: HashMap::new(),
            others_are_known: false,
            nodes: 0,
            bytes: 0,
        };
        if let Others::Known(others) = &home.templates {
            templates.others_are_known = true;
            for file in others {
                // Whatever is wrong with it is told to its own repository.
                let mut report = Report::new(&file.path, None);
                templates.read_file(file, &mut Found::default(), &mut report);
            }
        }
        for file in files.iter().filter(|file| is_template_file(&file.path)) {
            let mut report = Report::new(&file.path, None);
            templates.read_file(file, found, &mut report);
            problems.append(&mut report.problems);
            warnings.append(&mut report.warnings);
        }
        templates
    }

    fn read_file(&mut self, file: &Source, found: &mut Found, report: &mut Report<'_>) {
        let (root, faults) = yaml::parse(&file.text);
        for fault in faults {
            report.wrong(fault.at, "", fault.message);
        }
        let Some(root) = root else { return };
        let place = Place {
            node: &root,
            path: String::new(),
        };
        let (mut all, mut version) = (None, None);
        for (key, place) in place.named(report) {
            match key.text.to_ascii_lowercase().as_str() {
                "format_version" => version = Some(place),
                "templates" => all = Some(place),
                "common" => {}
                _ => report.wrong(
                    key.at,
                    &key.text,
                    "only `format_version`, `templates` and `common` stand in a file of templates",
                ),
            }
        }
        let version = read_version(version.as_ref(), found, report);
        let Some(all) = all.filter(|all| !matches!(all.node.value, Value::Absent)) else {
            return;
        };
        for (key, place) in all.named(report) {
            report.check_key(key, &place, names::check_name(&key.text));
            let Some(mut section) = place.section(report) else {
                continue;
            };
            let stages = section.required(report, "stages");
            section.close(report);
            let Some(stages) = stages else { continue };
            let Some(node) = child(place.node, "stages") else {
                continue;
            };
            match self.by_name.entry(key.text.to_ascii_lowercase()) {
                Entry::Occupied(known) => {
                    let Template { file, line, .. } = known.get();
                    let message = format!(
                        "the template `{}` is defined in {file}, line {line}, as well",
                        key.text
                    );
                    report.wrong(key.at, &place.path, message);
                }
                Entry::Vacant(free) => {
                    free.insert(Template {
                        file: file.path.clone(),
                        line: key.at.line,
                        path: stages.path,
                        version,
                        stages: node,
                    });
                }
            }
        }
    }

    /// The stages of the template that `place` names, for one pipeline; nothing when there is none,
    /// which has been told then. What is wrong with the stages is told where it stands: in the file
    /// of the template.
    pub(super) fn stages_for(
        &mut self,
        pipeline: &str,
        place: &Place<'_>,
        parameters: &Parameters,
        report: &mut Report<'_>,
    ) -> Option<Vec<Stage>> {
        let name = place.text(report)?;
        let Some(template) = self.by_name.get(&name.to_ascii_lowercase()) else {
            if self.others_are_known {
                let message = format!(
                    "there is no template `{name}`; templates stand in files \
                     `*.gocd-templates.yaml` of this or another repository of the server"
                );
                place.wrong(report, message);
                return None;
            }
            let message = format!(
                "the template `{name}` is not in these files; the pipeline's stages are not checked"
            );
            report.warn(place.node.at, &place.path, message);
            return None;
        };
        self.nodes = self.nodes.saturating_add(template.stages.weight());
        self.bytes = self.bytes.saturating_add(template.stages.bytes());
        if self.nodes > MAX_NODES || self.bytes > MAX_BYTES {
            let message = format!(
                "the pipelines up to here take more than {MAX_NODES} values or {MAX_BYTES} bytes from templates"
            );
            place.wrong(report, message);
            return None;
        }
        let mut inner = report.of_file(&template.file);
        let node = parameters.replace(&template.stages, &template.path, &mut inner);
        let stages = Place {
            node: &node,
            path: template.path.clone(),
        };
        let stages = stage::read_all(pipeline, &stages, template.version, &mut inner);
        report.take_in(inner, &format!(" (as the pipeline `{pipeline}` uses it)"));
        Some(stages)
    }
}

fn child(node: &Node, name: &str) -> Option<Arc<Node>> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let mut entries = entries.iter();
    entries
        .find(|(key, _)| key.text == name)
        .map(|(_, node)| Arc::clone(node))
}
