//! What a request is told that asks for a route which is not there.

use axum::extract::OriginalUri;
use http::{Method, StatusCode};

use crate::answer::Refusal;

/// What GoCD has and this server leaves out: how its paths begin, and why.
const LEFT_OUT: [(&str, &str); 17] = [
    ("admin/templates", TEMPLATES),
    ("admin/internal/templates", TEMPLATES),
    ("admin/plugin", PLUGINS),
    ("plugin_images", PLUGINS),
    ("admin/elastic", PLUGINS),
    ("elastic", PLUGINS),
    ("admin/artifact_stores", PLUGINS),
    ("admin/secret_configs", PLUGINS),
    ("admin/scms", PLUGINS),
    ("scms", PLUGINS),
    ("admin/packages", PLUGINS),
    ("admin/repositories", PLUGINS),
    ("admin/security/auth_configs", PLUGINS),
    ("admin/security/roles", ROLES),
    ("admin/security/system_admins", ROLES),
    ("admin/config.xml", CONFIG_XML),
    ("admin/config/", CONFIG_XML),
];

const TEMPLATES: &str = "Templates come from the files *.gocd-templates.yaml of configuration repositories, and are not changed by calls";
const PLUGINS: &str = "This server has no plugins, and nothing that is configured through them";
const ROLES: &str = "Roles are set for each user: see 'journeyman-server users'";
const CONFIG_XML: &str = "This server has no configuration in XML: pipelines come from the files of configuration repositories";

/// 404, which says what is missing.
pub async fn nothing_there(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    let path = uri.path();
    let Some(call) = path.strip_prefix("/go/api/") else {
        return Refusal::text(StatusCode::NOT_FOUND, format!("There is no page {path}.\n"));
    };
    let left_out = LEFT_OUT.iter().find(|(begin, _)| call.starts_with(begin));
    let text = match left_out {
        Some((_, why)) => format!("{why}; {path} is not served."),
        None => format!(
            "The URL appears incorrect: no call {method} {path} is served. See /go/api/openapi.json for those that are."
        ),
    };
    Refusal::message(StatusCode::NOT_FOUND, text)
}
