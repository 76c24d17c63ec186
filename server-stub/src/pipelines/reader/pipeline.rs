//! Pipelines and what stands beside their stages.

use crate::pipelines::cron::Schedule;
use crate::pipelines::definition::{LockBehavior, Pipeline, Timer, TrackingTool};
use crate::pipelines::label;
use crate::pipelines::names;
use crate::pipelines::yaml::Key;

use super::section::{Place, Report, Section};
use super::template::Templates;
use super::{Home, material, parameters, stage};

/// Shown for a pipeline whose place in its group was not given.
const NO_ORDER: i64 = -1;

pub(super) fn read(
    key: &Key,
    place: &Place<'_>,
    home: &Home,
    version: u32,
    templates: &mut Templates,
    report: &mut Report<'_>,
) -> Option<Pipeline> {
    let name = &key.text;
    report.check_key(key, place, names::check_name(name));
    let parameters = parameters::read(place, report);
    let replaced = parameters.replace(place.node, &place.path, report);
    let place = Place {
        node: &replaced,
        path: place.path.clone(),
    };
    let mut section = place.section(report)?;
    // Read before anything else is.
    section.get("parameters");
    let group = section.required(report, "group");
    let group = group.and_then(|place| {
        let group = place.text(report)?;
        report.check(&place, names::check_name(&group));
        Some(group)
    });
    let display_order = section
        .get("display_order")
        .and_then(|place| place.integer(report))
        .unwrap_or(NO_ORDER);
    let lock_behavior = read_lock(&mut section, report);
    let timer = read_timer(&mut section, report);
    let tracking_tool = read_tracking_tool(&mut section, report);
    let variables = section.variables(report);
    let known = report.problems.len();
    let materials_place = section.required(report, "materials");
    let materials = materials_place
        .as_ref()
        .map(|place| material::read_all(name, place, home, report))
        .unwrap_or_default();
    if let Some(place) = materials_place.as_ref().filter(|_| materials.is_empty())
        && report.problems.len() == known
    {
        place.wrong(report, "a pipeline needs at least one material");
    }
    let materials_are_known = report.problems.len() == known;
    let label = section.get("label_template");
    let label_template = label
        .as_ref()
        .and_then(|place| place.text(report))
        .unwrap_or_else(|| label::DEFAULT_TEMPLATE.to_owned());
    if let Some(place) = &label
        && materials_are_known
    {
        report.check(place, label::check(&label_template, &materials, &variables));
    }
    let template = section.get("template");
    let stages = match &template {
        Some(place) if section.get("stages").is_some() => {
            place.wrong(report, "`template` and `stages` exclude each other");
            None
        }
        Some(place) => templates.stages_for(name, place, &parameters, report),
        None => section
            .required(report, "stages")
            .map(|place| stage::read_all(name, &place, version, report)),
    };
    section.close(report);
    Some(Pipeline {
        name: name.clone(),
        group: group?,
        display_order,
        label_template,
        lock_behavior,
        timer,
        tracking_tool,
        variables,
        materials,
        template: template.and_then(|place| place.text(report)),
        stages: stages?,
    })
}

fn read_lock(section: &mut Section<'_>, report: &mut Report<'_>) -> LockBehavior {
    let old = section.get("locking");
    let old_value = old.as_ref().and_then(|place| place.boolean(report));
    let Some(place) = section.get("lock_behavior") else {
        return match old_value {
            Some(true) => LockBehavior::LockOnFailure,
            Some(false) | None => LockBehavior::None,
        };
    };
    if let Some(old) = old {
        old.wrong(
            report,
            "`locking` is the old form of `lock_behavior`; only one of them can be given",
        );
    }
    let all = [
        LockBehavior::None,
        LockBehavior::LockOnFailure,
        LockBehavior::UnlockWhenFinished,
    ];
    let Some(text) = place.text(report) else {
        return LockBehavior::None;
    };
    let known = all.into_iter().find(|one| one.wire_name() == text);
    known.unwrap_or_else(|| {
        place.wrong(
            report,
            format!("`{text}` is none of `none`, `lockOnFailure` and `unlockWhenFinished`"),
        );
        LockBehavior::None
    })
}

fn read_timer(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<Timer> {
    let place = section.get("timer")?;
    let mut section = place.section(report)?;
    let only_on_changes = section.boolean(report, "only_on_changes", false);
    let spec = section.required(report, "spec");
    section.close(report);
    let place = spec?;
    let spec = place.text(report)?;
    if let Err(message) = Schedule::parse(&spec) {
        place.wrong(report, message);
    }
    Some(Timer {
        spec,
        only_on_changes,
    })
}

fn read_tracking_tool(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<TrackingTool> {
    let place = section.get("tracking_tool")?;
    let mut section = place.section(report)?;
    let link = section.required(report, "link");
    let regex = section.required(report, "regex");
    section.close(report);
    let text = |place: &Option<Place<'_>>, report: &mut Report<'_>| place.as_ref()?.text(report);
    let (link_text, regex) = (text(&link, report), text(&regex, report));
    let link_text = link_text?;
    let web = link_text.starts_with("http://") || link_text.starts_with("https://");
    if let Some(place) = link
        && (!web || !link_text.contains("${ID}"))
    {
        place.wrong(
            report,
            "a link is an http or https address with `${ID}` in it",
        );
    }
    Some(TrackingTool {
        link: link_text,
        regex: regex?,
    })
}
