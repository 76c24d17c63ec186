//! What pipelines say about other pipelines, which only all of them together can tell to be true.

use std::collections::{HashMap, HashSet};

use crate::pipelines::definition::{Action, Environment, Fetch, Pipeline};
use crate::pipelines::store::StoredPipeline;
use crate::pipelines::yaml::Position;

use super::Problem;

/// A place in a file that is right or wrong by what stands elsewhere.
#[derive(Clone, Debug)]
pub struct Link {
    pub(super) file: String,
    pub(super) at: Position,
    /// Keys from the root to the value.
    pub(super) path: String,
    /// The pipeline it is about.
    pub(super) pipeline: String,
    pub(super) target: Target,
}

/// What is said of the pipeline.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// It is defined here, so nowhere else.
    Definition,
    /// It is in this environment, so in no other.
    Environment(String),
    /// A stage of an upstream pipeline must pass.
    Stage { pipeline: String, stage: String },
    /// Artifacts of a job of an upstream pipeline are fetched.
    Artifacts(Fetch),
}

/// All pipelines that can be referred to, by name in lower case.
struct World<'p> {
    pipelines: HashMap<String, &'p Pipeline>,
    /// Whether there are no others anywhere.
    complete: bool,
}

/// What the other configuration repositories define.
#[derive(Debug, Default)]
pub struct Elsewhere {
    pub pipelines: Vec<StoredPipeline>,
    /// Each with the repository that defines this part of it.
    pub environments: Vec<(String, Environment)>,
}

impl Elsewhere {
    fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        self.pipelines.iter().map(|one| &one.pipeline)
    }

    fn definition(&self, name: &str) -> Result<(), String> {
        let mut others = self.pipelines.iter();
        let other = others.find(|one| one.pipeline.name.eq_ignore_ascii_case(name));
        other.map_or(Ok(()), |other| {
            Err(format!(
                "the pipeline `{name}` is defined by the configuration repository `{}` already",
                other.repository
            ))
        })
    }

    fn membership(&self, pipeline: &str, environment: &str) -> Result<(), String> {
        let other = self.environments.iter().find(|(_, one)| {
            let mut members = one.pipelines.iter();
            !one.name.eq_ignore_ascii_case(environment)
                && members.any(|member| member.eq_ignore_ascii_case(pipeline))
        });
        other.map_or(Ok(()), |(repository, other)| {
            Err(format!(
                "the pipeline `{pipeline}` is in the environment `{}` already, by the configuration \
                 repository `{repository}`",
                other.name
            ))
        })
    }
}

/// What is wrong with the links of one repository's pipelines. Without knowing what is elsewhere
/// (in a checkout, where no server is asked), what refers to unknown pipelines is taken to be right.
#[must_use]
pub fn check(links: &[Link], own: &[Pipeline], elsewhere: Option<&Elsewhere>) -> Vec<Problem> {
    let others = elsewhere.into_iter().flat_map(Elsewhere::pipelines);
    let world = World::of(own.iter().chain(others), elsewhere.is_some());
    let mut problems = Vec::new();
    for link in links {
        let outcome = match (&link.target, elsewhere) {
            (Target::Definition, Some(elsewhere)) => elsewhere.definition(&link.pipeline),
            (Target::Environment(name), Some(elsewhere)) => {
                elsewhere.membership(&link.pipeline, name)
            }
            (target, _) => match world.get(&link.pipeline) {
                Some(pipeline) => world.verify(pipeline, target),
                None => Ok(()),
            },
        };
        if let Err(message) = outcome {
            problems.push(link.problem(message));
        }
    }
    for cycle in world.cycles() {
        let next = |name: &str| {
            let at = cycle.iter().position(|one| one == name)?;
            cycle.get(at + 1).or(cycle.first())
        };
        let link = links.iter().find(|link| match &link.target {
            Target::Stage { pipeline, .. } => {
                next(&link.pipeline.to_ascii_lowercase()) == Some(&pipeline.to_ascii_lowercase())
            }
            _ => false,
        });
        if let Some(link) = link {
            let mut way: Vec<&str> = cycle.iter().map(|name| world.name(name)).collect();
            way.extend(way.first().copied());
            let message = format!(
                "the pipelines wait for each other in a circle: {}",
                way.join(" -> ")
            );
            problems.push(link.problem(message));
        }
    }
    super::sort(&mut problems);
    problems
}

/// What a new revision would break in other repositories: links that are right with the pipelines
/// in force, and would not be with the new ones.
#[must_use]
pub fn broken(old: &[Pipeline], new: &[Pipeline], elsewhere: &Elsewhere) -> Vec<String> {
    let before = World::of(old.iter().chain(elsewhere.pipelines()), true);
    let after = World::of(new.iter().chain(elsewhere.pipelines()), true);
    let mut problems = Vec::new();
    for StoredPipeline {
        repository,
        pipeline,
    } in &elsewhere.pipelines
    {
        for target in targets(pipeline) {
            if let Err(message) = after.verify(pipeline, &target)
                && before.verify(pipeline, &target).is_ok()
            {
                problems.push(format!(
                    "the pipeline `{}` of the configuration repository `{repository}` needs what \
                     would be gone: {message}",
                    pipeline.name
                ));
            }
        }
    }
    problems
}

fn targets(pipeline: &Pipeline) -> Vec<Target> {
    let stages = pipeline.dependencies().map(|one| Target::Stage {
        pipeline: one.pipeline.clone(),
        stage: one.stage.clone(),
    });
    let jobs = pipeline.stages.iter().flat_map(|stage| &stage.jobs);
    let fetches = jobs
        .flat_map(|job| &job.tasks)
        .filter_map(|task| match &task.action {
            Action::Fetch(fetch) if !fetch.ancestors.is_empty() => {
                Some(Target::Artifacts(fetch.clone()))
            }
            _ => None,
        });
    stages.chain(fetches).collect()
}

impl Link {
    fn problem(&self, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            at: self.at,
            path: self.path.clone(),
            message,
        }
    }
}

impl<'p> World<'p> {
    fn of(pipelines: impl Iterator<Item = &'p Pipeline>, complete: bool) -> Self {
        let pipelines = pipelines.map(|one| (one.name.to_ascii_lowercase(), one));
        Self {
            pipelines: pipelines.collect(),
            complete,
        }
    }

    fn get(&self, name: &str) -> Option<&'p Pipeline> {
        self.pipelines.get(&name.to_ascii_lowercase()).copied()
    }

    fn name<'n>(&self, name: &'n str) -> &'n str
    where
        'p: 'n,
    {
        self.get(name).map_or(name, |pipeline| &pipeline.name)
    }

    fn verify(&self, from: &Pipeline, target: &Target) -> Result<(), String> {
        match target {
            Target::Definition | Target::Environment(_) => Ok(()),
            Target::Stage { pipeline, stage } => match self.get(pipeline) {
                Some(upstream) => stage_of(upstream, stage).map(drop),
                None if self.complete => Err(format!("there is no pipeline `{pipeline}`")),
                None => Ok(()),
            },
            Target::Artifacts(fetch) => self.verify_fetch(from, fetch),
        }
    }

    /// Goes from pipeline to dependency until the one to fetch from.
    fn verify_fetch(&self, from: &Pipeline, fetch: &Fetch) -> Result<(), String> {
        let mut reached: Option<(&Pipeline, usize)> = None;
        for name in fetch.ancestors.iter().rev() {
            let below = reached.map_or(from, |(pipeline, _)| pipeline);
            let mut dependencies = below.dependencies();
            let Some(dependency) = dependencies.find(|one| one.pipeline.eq_ignore_ascii_case(name))
            else {
                return Err(format!(
                    "`{}` does not depend on the pipeline `{name}`, so nothing can be fetched from it; \
                     the way to one further up is written as `further/nearer`",
                    below.name
                ));
            };
            let Some(upstream) = self.get(name) else {
                // That it is missing is said where it is depended on.
                return Ok(());
            };
            let Ok(position) = stage_of(upstream, &dependency.stage) else {
                return Ok(());
            };
            reached = Some((upstream, position));
        }
        let Some((upstream, last)) = reached else {
            return Ok(());
        };
        let position = stage_of(upstream, &fetch.stage)?;
        if position > last {
            return Err(format!(
                "the stage `{}` of `{}` comes after `{}`, which is all that is waited for",
                fetch.stage, upstream.name, upstream.stages[last].name
            ));
        }
        let jobs = &upstream.stages[position].jobs;
        if jobs.iter().any(|job| job.fetched_as(&fetch.job).is_some()) {
            Ok(())
        } else {
            Err(format!(
                "the stage `{}` of the pipeline `{}` has no job `{}`",
                fetch.stage, upstream.name, fetch.job
            ))
        }
    }

    /// Circles of dependencies, each once, as names in lower case.
    fn cycles(&self) -> Vec<Vec<String>> {
        // Whoever waits for nobody, or only for those, is in no circle.
        let upstream = |name: &str| {
            let pipeline = self.get(name);
            pipeline.into_iter().flat_map(Pipeline::dependencies)
        };
        let mut waiting: HashMap<String, usize> = HashMap::new();
        let mut downstream: HashMap<String, Vec<String>> = HashMap::new();
        for name in self.pipelines.keys() {
            let mut count = 0;
            for dependency in upstream(name) {
                let above = dependency.pipeline.to_ascii_lowercase();
                if self.pipelines.contains_key(&above) {
                    count += 1;
                    downstream.entry(above).or_default().push(name.clone());
                }
            }
            waiting.insert(name.clone(), count);
        }
        let free = waiting.iter().filter(|(_, count)| **count == 0);
        let mut free: Vec<String> = free.map(|(name, _)| name.clone()).collect();
        while let Some(name) = free.pop() {
            waiting.remove(&name);
            for below in downstream.get(&name).into_iter().flatten() {
                if let Some(count) = waiting.get_mut(below) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(below.clone());
                    }
                }
            }
        }
        // Everybody left waits for somebody left, so each way ends in a circle.
        let mut names: Vec<&String> = waiting.keys().collect();
        names.sort();
        let mut seen: HashSet<String> = HashSet::new();
        let mut cycles = Vec::new();
        for start in names {
            let mut way: Vec<String> = Vec::new();
            let mut here = start.clone();
            while seen.insert(here.clone()) {
                let mut above = upstream(&here).map(|one| one.pipeline.to_ascii_lowercase());
                let next = above.find(|name| waiting.contains_key(name));
                way.push(std::mem::take(&mut here));
                match next {
                    Some(next) => here = next,
                    None => break,
                }
            }
            if let Some(first) = way.iter().position(|name| *name == here) {
                cycles.push(way.split_off(first));
            }
        }
        cycles
    }
}

fn stage_of(pipeline: &Pipeline, stage: &str) -> Result<usize, String> {
    let mut stages = pipeline.stages.iter();
    stages
        .position(|one| one.name.eq_ignore_ascii_case(stage))
        .ok_or_else(|| format!("the pipeline `{}` has no stage `{stage}`", pipeline.name))
}
