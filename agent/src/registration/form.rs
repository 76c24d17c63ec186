//! The form an agent registers with.

use journeyman_host::autoregister::AutoRegister;
use journeyman_protocol::{registration::RegistrationForm, secret::Secret};

use crate::remoting::{Session, usable_space};

/// The form, with what `config/autoregister.properties` says now: an operator may write it while
/// the agent is pending.
pub(super) fn fill(
    session: &Session,
    auto: AutoRegister,
    token: Secret,
    certificate_request: Option<String>,
) -> RegistrationForm {
    let template = session.template();
    RegistrationForm {
        hostname: template.identifier.host_name.clone(),
        uuid: template.identifier.uuid.clone(),
        location: template.location.clone(),
        usable_space: usable_space(&session.workdir),
        operating_system: template.operating_system_name.clone(),
        agent_auto_register_key: auto.key,
        agent_auto_register_resources: auto.resources,
        agent_auto_register_environments: auto.environments,
        agent_auto_register_hostname: auto.hostname,
        elastic_agent_id: auto.elastic_agent_id,
        elastic_plugin_id: auto.elastic_plugin_id,
        token,
        certificate_request,
    }
}
