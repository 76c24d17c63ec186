//! The form of a registration.

use std::collections::BTreeMap;

use journeyman_protocol::{registration::RegistrationForm, secret::Secret};
use percent_encoding::percent_decode_str;

/// A form that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the parameter `{0}` is missing: send it empty when there is nothing to say")]
    Missing(&'static str),
    #[error("the parameter `{name}` is not a number: `{value}`")]
    NotANumber { name: &'static str, value: String },
}

/// Reads the form. The Java agent says ISO-8859-1 in its content type, and means it.
pub(super) fn read(content_type: &str, body: &[u8]) -> Result<RegistrationForm, FormError> {
    let latin1 = content_type.to_ascii_lowercase().contains("iso-8859-1");
    let text = String::from_utf8_lossy(body);
    let mut fields: BTreeMap<String, String> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, latin1), decode(value, latin1))
        })
        .collect();
    let mut take = |name: &'static str| fields.remove(name).ok_or(FormError::Missing(name));
    let space = take("usablespace")?;
    Ok(RegistrationForm {
        usable_space: space.trim().parse().map_err(|_| FormError::NotANumber {
            name: "usablespace",
            value: space,
        })?,
        hostname: take("hostname")?,
        uuid: take("uuid")?,
        location: take("location")?,
        operating_system: take("operatingSystem")?,
        agent_auto_register_key: Secret::from(take("agentAutoRegisterKey")?),
        agent_auto_register_resources: take("agentAutoRegisterResources")?,
        agent_auto_register_environments: take("agentAutoRegisterEnvironments")?,
        agent_auto_register_hostname: take("agentAutoRegisterHostname")?,
        elastic_agent_id: take("elasticAgentId")?,
        elastic_plugin_id: take("elasticPluginId")?,
        token: Secret::from(take("token")?),
        certificate_request: fields
            .remove("certificateRequest")
            .filter(|request| !request.is_empty()),
    })
}

fn decode(text: &str, latin1: bool) -> String {
    let spaced = text.replace('+', " ");
    let bytes: Vec<u8> = percent_decode_str(&spaced).collect();
    if latin1 {
        bytes.into_iter().map(char::from).collect()
    } else {
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "hostname=b%FCro+1&uuid=u&location=%2Fsrv&usablespace=5&operatingSystem=&\
        agentAutoRegisterKey=&agentAutoRegisterResources=&agentAutoRegisterEnvironments=&\
        agentAutoRegisterHostname=&elasticAgentId=&elasticPluginId=&token=t%2B%3D";

    #[test]
    fn the_java_agents_charset_is_understood() {
        let form = read(
            "application/x-www-form-urlencoded; charset=ISO-8859-1",
            FORM.as_bytes(),
        )
        .unwrap();
        assert_eq!(
            (
                form.hostname.as_str(),
                form.usable_space,
                form.token.expose()
            ),
            ("büro 1", 5, "t+=")
        );
        let utf8 = FORM.replace("%FC", "%C3%BC");
        assert_eq!(
            read("application/x-www-form-urlencoded", utf8.as_bytes())
                .unwrap()
                .hostname,
            "büro 1"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = FORM.replace("elasticPluginId=&", "");
        assert_eq!(
            read("", without.as_bytes()),
            Err(FormError::Missing("elasticPluginId"))
        );
        let wrong = FORM.replace("usablespace=5", "usablespace=much");
        assert_eq!(
            read("", wrong.as_bytes()),
            Err(FormError::NotANumber {
                name: "usablespace",
                value: "much".to_owned()
            })
        );
    }
}
