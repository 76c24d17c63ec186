//! Where a run comes from and what came of it: the materials and runs of pipelines upstream, and
//! the runs of pipelines downstream.

mod layout;

use std::collections::{HashMap, HashSet, VecDeque};

use journeyman_protocol::material::Material;
use journeyman_protocol::revision::Modification;
use sqlx::SqliteConnection;

use crate::App;
use crate::database::DatabaseError;
use crate::jobs::StageLocator;
use crate::pipelines::location;
use crate::pipelines::outline::{self, Outline};
use crate::scheduling::run::{self, Run};
use crate::scheduling::trigger;
use crate::scheduling::view::{self, RunView};
use crate::users::Actor;

/// The graph around one run, in columns from left to right; what leads into a node stands left of
/// it.
#[derive(Clone, Debug)]
pub struct ValueStream {
    pub pipeline: String,
    pub counter: i64,
    pub levels: Vec<Vec<Node>>,
}

/// A pipeline, a material, or a place where a line passes through.
#[derive(Clone, Debug)]
pub struct Node {
    /// A pipeline's name, a material's fingerprint.
    pub id: String,
    pub kind: NodeKind,
    /// Ids of nodes one column to the left.
    pub parents: Vec<String>,
    /// Ids of nodes one column to the right.
    pub dependents: Vec<String>,
    /// The row in the column, from 1.
    pub depth: usize,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    Pipeline(PipelineNode),
    /// A pipeline that the viewer may not see. Nothing beyond it is shown.
    Hidden,
    Git(GitNode),
    /// A material of another kind, with its GoCD type.
    Other(String),
    /// A line passes through.
    Line,
}

#[derive(Clone, Debug)]
pub struct PipelineNode {
    pub name: String,
    /// Newest first; none if nothing has run yet.
    pub instances: Vec<Instance>,
    /// The stages as they are defined now, for a pipeline that has not run yet.
    pub stages: Vec<String>,
}

/// A run of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub counter: i64,
    pub label: String,
    pub stages: Vec<InstanceStage>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStage {
    pub name: String,
    /// `Unknown` before it has run.
    pub state: String,
    /// Its latest run; none before it has run.
    pub counter: Option<i64>,
    /// From being scheduled to its end.
    pub seconds: Option<i64>,
}

/// A git repository.
#[derive(Clone, Debug)]
pub struct GitNode {
    /// Without credentials.
    pub url: String,
    pub branch: String,
    /// The material's names in the pipelines.
    pub names: Vec<String>,
    /// One list of commits for each of the revisions that went in.
    pub revisions: Vec<Vec<Modification>>,
}

/// The graph while it is put together.
struct Graph<'a> {
    connection: &'a mut SqliteConnection,
    actor: &'a Actor,
    /// All pipelines that are defined, by name in lower case.
    defined: HashMap<String, Outline>,
    nodes: Vec<Node>,
    /// Places in `nodes`, by id in lower case.
    places: HashMap<String, usize>,
    edges: Vec<(usize, usize)>,
}

/// The value stream of a run; none if there is no such run.
///
/// # Errors
///
/// The database could not be read.
pub async fn of(
    app: &App,
    pipeline: &str,
    counter: i64,
    actor: &Actor,
) -> Result<Option<ValueStream>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let Some(run) = run::find_run(&mut connection, pipeline, counter).await? else {
        return Ok(None);
    };
    let outlines = outline::all(&mut connection).await?;
    let defined = outlines
        .into_iter()
        .map(|one| (one.name.to_lowercase(), one));
    let mut graph = Graph {
        defined: defined.collect(),
        connection: &mut connection,
        actor,
        nodes: Vec::new(),
        places: HashMap::new(),
        edges: Vec::new(),
    };
    let name = run.pipeline.clone();
    graph.upstream(run).await?;
    graph.downstream(&name, counter).await?;
    let Graph { nodes, edges, .. } = graph;
    Ok(Some(ValueStream {
        pipeline: name,
        counter,
        levels: layout::levels(nodes, &edges),
    }))
}

impl Graph<'_> {
    /// The node with an id, made if it is not there.
    fn node(&mut self, id: &str, kind: impl FnOnce() -> NodeKind) -> usize {
        let place = *self
            .places
            .entry(id.to_lowercase())
            .or_insert(self.nodes.len());
        if place == self.nodes.len() {
            self.nodes.push(Node {
                id: id.to_owned(),
                kind: kind(),
                parents: Vec::new(),
                dependents: Vec::new(),
                depth: 0,
            });
        }
        place
    }

    fn edge(&mut self, from: usize, to: usize) {
        if from != to && !self.edges.contains(&(from, to)) {
            self.edges.push((from, to));
        }
    }

    /// The runs that a run was made from, with their materials, and so on.
    async fn upstream(&mut self, run: Run) -> Result<(), DatabaseError> {
        let mut met = HashSet::from([(run.pipeline.to_lowercase(), run.counter)]);
        let mut waiting = VecDeque::from([run]);
        while let Some(run) = waiting.pop_front() {
            let revisions = run.revisions.revisions.clone();
            let place = self.add_run(run).await?;
            for revision in revisions {
                let (Material::DependencyMaterial(_), Some(newest)) =
                    (&revision.material, revision.newest())
                else {
                    let place_of_material =
                        self.add_material(&revision.material, revision.modifications);
                    self.edge(place_of_material, place);
                    continue;
                };
                let Some(from) = StageLocator::parse(&newest.revision) else {
                    continue;
                };
                let found = run::find_run(self.connection, &from.pipeline, from.counter).await?;
                let Some(found) = found else {
                    continue;
                };
                if !self.actor.sees(self.group_of(&found)) {
                    let hidden = self.node(&found.pipeline, || NodeKind::Hidden);
                    self.edge(hidden, place);
                    continue;
                }
                let upstream = self.pipeline_node(&found.pipeline);
                self.edge(upstream, place);
                if met.insert((found.pipeline.to_lowercase(), found.counter)) {
                    waiting.push_back(found);
                }
            }
        }
        Ok(())
    }

    /// The runs that were made from a run, and so on, by the pipelines as they are defined now.
    async fn downstream(&mut self, pipeline: &str, counter: i64) -> Result<(), DatabaseError> {
        let upstream: HashSet<String> = self.places.keys().cloned().collect();
        let mut followed = HashSet::new();
        let mut met = HashSet::new();
        let mut waiting = VecDeque::from([(pipeline.to_owned(), vec![counter])]);
        while let Some((pipeline, counters)) = waiting.pop_front() {
            let place = self.pipeline_node(&pipeline);
            for child in self.children(&pipeline) {
                // What is upstream as well was defined otherwise when it ran.
                if upstream.contains(&child.to_lowercase()) {
                    continue;
                }
                let is_new = followed.insert((pipeline.to_lowercase(), child.clone()));
                let child_place = if self.is_hidden(&child) {
                    self.node(&child, || NodeKind::Hidden)
                } else {
                    self.pipeline_node(&child)
                };
                self.edge(place, child_place);
                if self.is_hidden(&child) {
                    continue;
                }
                let mut made = Vec::new();
                for run in self.runs_made_from(&pipeline, &counters, &child).await? {
                    if met.insert(run.id) {
                        made.push(run.counter);
                        self.add_run(run).await?;
                    }
                }
                if is_new || !made.is_empty() {
                    waiting.push_back((child, made));
                }
            }
        }
        Ok(())
    }

    /// The pipelines that depend on one, by name.
    fn children(&self, pipeline: &str) -> Vec<String> {
        let depends = |one: &&Outline| {
            let mut upstreams = one.upstreams();
            upstreams.any(|name| name.eq_ignore_ascii_case(pipeline))
        };
        let mut children: Vec<String> = self
            .defined
            .values()
            .filter(depends)
            .map(|one| one.name.clone())
            .collect();
        children.sort_by_key(|name| name.to_lowercase());
        children
    }

    fn is_hidden(&self, pipeline: &str) -> bool {
        let defined = self.defined.get(&pipeline.to_lowercase());
        defined.is_some_and(|one| !self.actor.sees(&one.group))
    }

    /// The group a run's pipeline is in, or was when it ran.
    fn group_of<'r>(&'r self, run: &'r Run) -> &'r str {
        let defined = self.defined.get(&run.pipeline.to_lowercase());
        defined.map_or(&run.definition.pipeline.group, |one| &one.group)
    }

    async fn runs_made_from(
        &mut self,
        pipeline: &str,
        counters: &[i64],
        child: &str,
    ) -> Result<Vec<Run>, DatabaseError> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT run_id FROM run_upstreams \
             JOIN pipeline_runs ON pipeline_runs.id = run_id \
             WHERE run_upstreams.pipeline = lower($1) \
             AND run_upstreams.counter IN (SELECT value FROM json_each($2)) \
             AND lower(pipeline_runs.pipeline) = lower($3)",
        )
        .bind(pipeline)
        .bind(view::id_list(counters))
        .bind(child)
        .fetch_all(&mut *self.connection)
        .await?;
        view::runs_by_id(self.connection, &ids).await
    }

    fn pipeline_node(&mut self, name: &str) -> usize {
        let defined = self.defined.get(&name.to_lowercase());
        let stages = defined.map(|one| one.stages.iter().map(|stage| stage.name.clone()));
        let stages: Vec<String> = stages.into_iter().flatten().collect();
        self.node(name, || {
            NodeKind::Pipeline(PipelineNode {
                name: name.to_owned(),
                instances: Vec::new(),
                stages,
            })
        })
    }

    /// Adds a run to the node of its pipeline.
    async fn add_run(&mut self, run: Run) -> Result<usize, DatabaseError> {
        let place = self.pipeline_node(&run.pipeline);
        let view = view::of_run(self.connection, run).await?;
        if let NodeKind::Pipeline(pipeline) = &mut self.nodes[place].kind {
            let newer = |one: &Instance| one.counter > view.run.counter;
            let at = pipeline.instances.partition_point(newer);
            pipeline.instances.insert(at, Instance::of(&view));
        }
        Ok(place)
    }

    fn add_material(&mut self, material: &Material, modifications: Vec<Modification>) -> usize {
        let Material::GitMaterial(git) = material else {
            let kind = material.kind().to_owned();
            return self.node(&trigger::fingerprint(material), || NodeKind::Other(kind));
        };
        let place = self.node(&trigger::fingerprint(material), || {
            NodeKind::Git(GitNode {
                url: location::without_credentials(&git.url.url),
                branch: git.ref_spec_or_branch.clone(),
                names: Vec::new(),
                revisions: Vec::new(),
            })
        });
        if let NodeKind::Git(node) = &mut self.nodes[place].kind {
            if let Some(name) = &git.scm.attributes.name {
                let name = name.to_string();
                if !node.names.contains(&name) {
                    node.names.push(name);
                }
            }
            let newest = modifications.first().map(|one| &one.revision);
            let mut known = node.revisions.iter().filter_map(|list| list.first());
            if newest.is_some() && known.all(|one| Some(&one.revision) != newest) {
                node.revisions.push(modifications);
            }
        }
        place
    }
}

impl Instance {
    fn of(view: &RunView) -> Self {
        let stages = view.stages.iter().map(|stage| {
            let row = stage.row.as_ref();
            let milliseconds = row.and_then(|row| Some(row.completed_at? - row.scheduled_at));
            InstanceStage {
                name: stage.name.clone(),
                state: row.map_or("Unknown", |row| &row.state).to_owned(),
                counter: row.map(|row| row.counter),
                seconds: milliseconds.map(|milliseconds| milliseconds / 1000),
            }
        });
        Self {
            counter: view.run.counter,
            label: view.run.label.clone(),
            stages: stages.collect(),
        }
    }
}
