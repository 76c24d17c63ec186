//! Who may make a request: one rule for each kind of route.
//!
//! What is not named here is closed: a new route with `{pipeline}` in its path is for those who
//! may see (GET) or operate (all else) that pipeline, any other for those who may see, or
//! administer, everything.

use http::Method;

use super::Role;
use crate::jobs::Locator;

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it is open, or has an authentication of its own.
    Nothing,
    /// An account, whatever it may do.
    Account,
    /// A role in at least one group. The answer tells only what the caller may see.
    Anywhere(Role),
    /// A role in all groups.
    Everywhere(Role),
    /// A role in the group of a pipeline.
    Pipeline(String, Role),
    /// A role in the group of the pipeline of the job with this id.
    Job(i64, Role),
}

/// Routes for agents, which say who they are by a token of their own.
const FOR_AGENTS: [&str; 6] = [
    "/go/remoting/",
    "/go/admin/agent-",
    "/go/admin/agent/",
    "/go/admin/journeyman/",
    "/go/admin/latest-agent.status",
    "/go/admin/tfs-impl.jar",
];

/// Routes that tell nothing.
const OPEN: [&str; 13] = [
    "/",
    "/go",
    "/go/",
    "/go/about",
    // Registers an agent.
    "/go/admin/agent",
    "/go/api/openapi.json",
    "/go/api/v1/health",
    "/go/api/v1/ready",
    "/go/api/version",
    "/go/auth/login",
    "/go/auth/security_check",
    "/go/auth/sign_in",
    "/go/auth/signed_in",
];

/// The same for all that begins so; webhooks have a secret of their own, and the address of a report
/// holds a ticket.
const OPEN_BELOW: [&str; 3] = ["/go/assets/", "/go/api/webhooks/", "/go/reports/"];

/// For those who administer the server, reading too.
const FOR_ADMINS: [&str; 6] = [
    "/go/admin/",
    "/go/api/admin/",
    "/go/api/backups",
    "/go/api/journeyman/audit",
    "/go/api/journeyman/users",
    "/go/api/users",
];

/// What people do for themselves.
const FOR_ACCOUNTS: [&str; 4] = [
    "/go/access_tokens",
    "/go/access_tokens/{id}/revoke",
    "/go/api/auth/permissions",
    "/go/auth/logout",
];

/// Lists that are cut to what the caller may see, and what everybody may know.
const FOR_ALL: [&str; 17] = [
    "/go/agents",
    "/go/api/agents",
    "/go/api/agents/{uuid}",
    "/go/api/config/materials",
    "/go/api/config/pipeline_groups",
    "/go/api/dashboard",
    "/go/api/feed/jobs/scheduled.xml",
    "/go/api/feed/pipelines.xml",
    "/go/api/jobs/scheduled.xml",
    "/go/api/journeyman/pipelines",
    "/go/api/materials",
    "/go/api/materials/{fingerprint}/modifications",
    "/go/api/pipelines.xml",
    "/go/cctray.xml",
    "/go/dashboard",
    "/go/home",
    "/go/pipelines",
];

/// What a request needs. `route` is the route's own path (`/go/api/agents/{uuid}`), `path` that of
/// the request, and `parameter` a part of it by its name, decoded.
pub(super) fn need(
    method: &Method,
    route: &str,
    path: &str,
    parameter: impl Fn(&str) -> Option<String>,
) -> Need {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let role = if reads { Role::View } else { Role::Operate };
    let begins = |list: &[&str]| list.iter().any(|begin| route.starts_with(begin));
    if OPEN.contains(&route) || begins(&OPEN_BELOW) || begins(&FOR_AGENTS) {
        return Need::Nothing;
    }
    if FOR_ACCOUNTS.contains(&route) || route.starts_with("/go/api/current_user") {
        return Need::Account;
    }
    if let Some(below) = path.strip_prefix("/go/files/") {
        // As the handler reads it. What it cannot read, it refuses.
        return match Locator::parse(below) {
            Ok((locator, _)) => Need::Pipeline(locator.pipeline, role),
            Err(_) => Need::Anywhere(role),
        };
    }
    if begins(&FOR_ADMINS) {
        return Need::Everywhere(Role::Admin);
    }
    if let Some(pipeline) = parameter("pipeline") {
        return Need::Pipeline(pipeline, role);
    }
    if route == "/go/api/journeyman/consoles/{id}" {
        // An id that is no number is that of no job.
        let id = parameter("id").and_then(|id| id.parse().ok());
        return Need::Job(id.unwrap_or(0), role);
    }
    if !reads {
        return Need::Everywhere(Role::Admin);
    }
    if FOR_ALL.contains(&route) {
        return Need::Anywhere(Role::View);
    }
    Need::Everywhere(Role::View)
}

/// Whether people may do it in maintenance: what makes the server quieter, and what ends it.
pub(super) fn is_for_maintenance(route: &str) -> bool {
    route.ends_with("/cancel")
        || [
            "/go/admin/backups",
            "/go/admin/maintenance/",
            "/go/api/admin/maintenance_mode/",
            "/go/api/backups",
            "/go/auth/logout",
        ]
        .iter()
        .any(|begin| route.starts_with(begin))
}

/// Whether programs call it, and are answered with JSON; else it is a page.
pub(crate) fn is_for_programs(route: &str) -> bool {
    [
        "/go/api/",
        "/go/files/",
        "/go/cctray.xml",
        "/go/properties/",
        "/go/run/",
        "/metrics",
    ]
    .iter()
    .any(|begin| route.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn of(method: &str, route: &str) -> Need {
        let path = route
            .replace("{pipeline}", "web")
            .replace("{*path}", "/web/1/s/1/j/x");
        need(&method.parse().unwrap(), route, &path, |name| {
            let value = match name {
                "pipeline" => "web",
                "id" => "7",
                _ => return None,
            };
            route
                .contains(&format!("{{{name}}}"))
                .then(|| value.to_owned())
        })
    }

    #[test]
    fn every_kind_of_route_has_its_need() {
        use Need::{Account, Anywhere, Everywhere, Job, Nothing};
        use Role::{Admin, Operate, View};
        let web = |role| Need::Pipeline("web".to_owned(), role);
        let table = [
            ("POST", "/go/remoting/api/agent/ping", Nothing),
            ("PUT", "/go/remoting/files/{*path}", Nothing),
            ("POST", "/go/admin/agent", Nothing),
            ("GET", "/go/admin/agent/token", Nothing),
            ("GET", "/go/admin/agent-launcher.jar", Nothing),
            ("POST", "/go/admin/journeyman/release", Nothing),
            ("GET", "/go/api/version", Nothing),
            ("GET", "/go/api/v1/health", Nothing),
            ("GET", "/go/api/v1/ready", Nothing),
            ("GET", "/go/auth/login", Nothing),
            ("POST", "/go/auth/security_check", Nothing),
            ("GET", "/go/auth/sign_in", Nothing),
            ("GET", "/go/auth/signed_in", Nothing),
            ("POST", "/go/auth/logout", Account),
            ("POST", "/go/access_tokens/{id}/revoke", Account),
            ("GET", "/go/reports/{ticket}/{*path}", Nothing),
            ("GET", "/go/health", Everywhere(View)),
            ("GET", "/go/admin/config_repos", Everywhere(Admin)),
            ("GET", "/go/agents/{uuid}/job_run_history", Everywhere(View)),
            ("GET", "/go/assets/style.css", Nothing),
            ("GET", "/go/agents", Anywhere(View)),
            ("POST", "/go/agents/{uuid}/{action}", Everywhere(Admin)),
            ("GET", "/go/api/agents/{uuid}", Anywhere(View)),
            ("PATCH", "/go/api/agents/{uuid}", Everywhere(Admin)),
            ("GET", "/go/api/dashboard", Anywhere(View)),
            ("GET", "/go/cctray.xml", Anywhere(View)),
            ("POST", "/go/run/{pipeline}/{counter}/{stage}", web(Operate)),
            (
                "GET",
                "/go/api/feed/pipelines/{pipeline}/stages.xml",
                web(View),
            ),
            ("GET", "/go/pipelines", Anywhere(View)),
            ("POST", "/go/pipelines/{pipeline}/trigger", web(Operate)),
            ("POST", "/go/pipelines/{pipeline}/pause", web(Operate)),
            ("GET", "/go/pipeline/activity/{pipeline}", web(View)),
            ("GET", "/go/compare/{pipeline}/{from}/with/{to}", web(View)),
            (
                "GET",
                "/go/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}",
                web(View),
            ),
            (
                "POST",
                "/go/api/stages/{pipeline}/{counter}/{stage}/run",
                web(Operate),
            ),
            ("GET", "/go/api/pipelines/{pipeline}/history", web(View)),
            ("GET", "/go/files/{*path}", web(View)),
            ("PUT", "/go/files/{*path}", web(Operate)),
            ("GET", "/go/api/journeyman/consoles/{id}", Job(7, View)),
            ("GET", "/go/api/admin/config_repos", Everywhere(Admin)),
            (
                "GET",
                "/go/api/admin/pipelines/{pipeline}",
                Everywhere(Admin),
            ),
            ("GET", "/go/api/journeyman/releases", Everywhere(View)),
            (
                "POST",
                "/go/api/journeyman/releases/{id}/offers",
                Everywhere(Admin),
            ),
            ("GET", "/go/api/current_user", Account),
            ("GET", "/go/api/auth/permissions", Account),
            ("POST", "/go/api/admin/encrypt", Everywhere(Admin)),
            ("GET", "/go/api/config/pipeline_groups", Anywhere(View)),
            ("GET", "/go/properties/{pipeline}/{counter}", web(View)),
            ("GET", "/go/api/users", Everywhere(Admin)),
            ("POST", "/go/api/backups", Everywhere(Admin)),
            ("GET", "/go/api/backups/{id}", Everywhere(Admin)),
            ("POST", "/go/admin/backups", Everywhere(Admin)),
            (
                "GET",
                "/go/api/admin/maintenance_mode/info",
                Everywhere(Admin),
            ),
            ("POST", "/go/admin/maintenance/{switch}", Everywhere(Admin)),
            (
                "POST",
                "/go/pipelines/{pipeline}/{counter}/pin",
                web(Operate),
            ),
            ("GET", "/go/api/journeyman/audit", Everywhere(Admin)),
            ("GET", "/metrics", Everywhere(View)),
            ("GET", "/go/api/journeyman/pins", Everywhere(View)),
            (
                "POST",
                "/go/api/journeyman/runs/{pipeline}/{counter}/pin",
                web(Operate),
            ),
            // Routes that nobody has thought of.
            ("GET", "/go/something", Everywhere(View)),
            ("POST", "/go/something", Everywhere(Admin)),
            ("GET", "/go/something/{pipeline}", web(View)),
        ];
        for (method, route, expected) in table {
            assert_eq!(of(method, route), expected, "{method} {route}");
        }
    }
}
