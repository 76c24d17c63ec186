//! What is around the content of every page: the way to the other pages, and who looks.

use std::future::Future;

use super::may;
use crate::App;
use crate::health::{self, Level};
use crate::users::{Role, forms};

tokio::task_local! {
    /// What is wrong while the page is rendered.
    static HEALTH: Badge;
    /// Who keeps the server still, if anybody does.
    static MAINTENANCE: Option<String>;
}

/// How much is wrong just now.
#[derive(Clone, Copy)]
pub(crate) struct Badge {
    pub(crate) errors: usize,
    pub(crate) warnings: usize,
}

/// Runs a request whose page shows how much is wrong.
pub(crate) async fn with_health<T>(app: &App, request: impl Future<Output = T>) -> T {
    let all = health::list(app);
    let errors = all.iter().filter(|one| one.level == Level::Error).count();
    let warnings = all.len() - errors;
    let maintenance = app.maintenance.is_on();
    let by = maintenance.then(|| app.maintenance.state().by);
    let request = MAINTENANCE.scope(by, request);
    HEALTH.scope(Badge { errors, warnings }, request).await
}

/// A page of the navigation.
struct Section {
    /// What a page's `here()` answers.
    key: &'static str,
    name: &'static str,
    path: &'static str,
    /// What one must be everywhere to open it; nothing for those that are cut to what one may see.
    needs: Option<Role>,
}

const fn section(
    key: &'static str,
    name: &'static str,
    path: &'static str,
    needs: Option<Role>,
) -> Section {
    Section {
        key,
        name,
        path,
        needs,
    }
}

const SECTIONS: [Section; 6] = [
    section("pipelines", "Pipelines", "/go/pipelines", None),
    section("agents", "Agents", "/go/agents", None),
    section("releases", "Releases", "/go/releases", Some(Role::View)),
    section(
        "repositories",
        "Repositories",
        "/go/admin/config_repos",
        Some(Role::Admin),
    ),
    section("health", "Health", "/go/health", Some(Role::View)),
    section("users", "Users", "/go/admin/users", Some(Role::Admin)),
];

/// A link of the navigation.
pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) current: bool,
    pub(crate) badge: Option<Badge>,
}

/// The pages that the one who looks may open.
pub(crate) fn links(here: &str) -> Vec<Link> {
    SECTIONS
        .iter()
        .filter(|section| section.needs.is_none_or(may::everywhere))
        .map(|section| Link {
            name: section.name,
            path: section.path,
            current: section.key == here,
            badge: (section.key == "health").then(badge).flatten(),
        })
        .collect()
}

/// Who has begun the maintenance that there is.
pub(crate) fn maintenance() -> Option<String> {
    MAINTENANCE.try_with(Clone::clone).ok().flatten()
}

/// Nothing if nothing is wrong.
fn badge() -> Option<Badge> {
    let badge = HEALTH.try_with(|badge| *badge).ok();
    badge.filter(|badge| badge.errors + badge.warnings > 0)
}

/// Who looks, if there is a login.
pub(crate) struct Viewer {
    pub(crate) name: String,
    pub(crate) can_log_out: bool,
}

pub(crate) fn viewer() -> Option<Viewer> {
    let viewer = forms::viewing(|actor| {
        actor.is_user().then(|| Viewer {
            name: actor.name.clone(),
            can_log_out: forms::is_session(actor),
        })
    });
    viewer.flatten()
}
