//! The variables of a job: what the console shows of them, what tasks get, and which are secret.

use std::collections::{BTreeMap, HashSet};

use journeyman_protocol::environment::EnvironmentVariableContext;

/// What the console shows in the place of a secure value.
const HIDDEN: &str = "********";

/// The variables of one job, in order; of two with one name the later counts.
///
/// GoCD: a variable without a value makes every command of the job fail there, which nobody can
/// want; here it is as if it were not in the list.
#[derive(Clone)]
pub(crate) struct Environment {
    variables: Vec<Variable>,
}

#[derive(Clone)]
struct Variable {
    name: String,
    value: String,
    secure: bool,
}

impl Environment {
    /// The server's variables behind `GO_SERVER_URL`, each secret parameter put in.
    pub(crate) fn new(server_url: &str, context: &EnvironmentVariableContext) -> Self {
        let mut variables = vec![Variable {
            name: "GO_SERVER_URL".to_owned(),
            value: server_url.trim_end_matches('/').to_owned(),
            secure: false,
        }];
        for variable in &context.properties {
            if let Some(value) = variable.resolved_value() {
                variables.push(Variable {
                    name: variable.name.clone(),
                    value,
                    secure: variable.secure || !variable.secret_params.is_empty(),
                });
            }
        }
        Self { variables }
    }

    /// Puts plain variables behind the others.
    pub(crate) fn extend(&mut self, variables: Vec<(String, String)>) {
        let plain = |(name, value)| Variable {
            name,
            value,
            secure: false,
        };
        self.variables.extend(variables.into_iter().map(plain));
    }

    /// The secure values, also those that a later variable overrides.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.variables
            .iter()
            .filter(|variable| variable.secure)
            .map(|variable| variable.value.clone())
            .collect()
    }

    /// The lines that tell what is set; `inherited` says whether the agent's own environment has
    /// a name. They are not masked yet.
    pub(crate) fn report(&self, inherited: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = HashSet::new();
        self.variables
            .iter()
            .map(|variable| {
                let name = variable.name.as_str();
                let value = if variable.secure {
                    HIDDEN
                } else {
                    &variable.value
                };
                if seen.insert(name) && !inherited(name) {
                    format!("[go] setting environment variable '{name}' to value '{value}'")
                } else {
                    format!("[go] overriding environment variable '{name}' with value '{value}'")
                }
            })
            .collect()
    }

    /// The name of a variable that no process can have. GoCD: every command of the job fails.
    pub(crate) fn impossible_name(&self) -> Option<&str> {
        self.variables
            .iter()
            .find(|variable| variable.name.contains(['=', '\0']) || variable.value.contains('\0'))
            .map(|variable| variable.name.as_str())
    }

    /// What a task gets on top of the agent's own environment.
    pub(crate) fn overlay(&self) -> BTreeMap<&str, &str> {
        self.variables
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::{
        environment::{EnvironmentVariable, SecretParam},
        secret::Secret,
    };
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::job::masking::Mask;

    fn environment(variables: Vec<EnvironmentVariable>) -> Environment {
        Environment::new(
            "http://h:8153/go/",
            &EnvironmentVariableContext {
                properties: variables,
            },
        )
    }

    #[test]
    fn names_no_process_can_have_are_found() {
        let of = |name, value| {
            environment(vec![EnvironmentVariable::plain(name, value)])
                .impossible_name()
                .map(str::to_owned)
        };
        assert_eq!(of("A=B", "1"), Some("A=B".to_owned()));
        assert_eq!(of("A", "x\0y"), Some("A".to_owned()));
        assert_eq!(of("a.b c", "x=y"), None);
        assert_eq!(of("", "1"), None);
    }

    #[test]
    fn reports_as_gocd_does() {
        let environment = environment(vec![
            EnvironmentVariable::plain("P", "v"),
            EnvironmentVariable::plain("P", "w"),
            EnvironmentVariable::plain("PATH", "/x"),
            EnvironmentVariable::secure("bar", "i am a secret"),
            EnvironmentVariable::plain("foo", "foo(i am a secret)"),
            EnvironmentVariable {
                value: None,
                ..EnvironmentVariable::plain("gone", "")
            },
            EnvironmentVariable::plain("GO_SERVER_URL", "mine"),
        ]);
        let mask = Mask::new(environment.secrets());
        let lines: Vec<String> = environment
            .report(|name| name == "PATH")
            .iter()
            .map(|line| mask.apply(line).into_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "[go] setting environment variable 'GO_SERVER_URL' to value 'http://h:8153/go'",
                "[go] setting environment variable 'P' to value 'v'",
                "[go] overriding environment variable 'P' with value 'w'",
                "[go] overriding environment variable 'PATH' with value '/x'",
                "[go] setting environment variable 'bar' to value '********'",
                "[go] setting environment variable 'foo' to value 'foo(******)'",
                "[go] overriding environment variable 'GO_SERVER_URL' with value 'mine'",
            ]
        );
        assert_eq!(environment.overlay().get("P"), Some(&"w"));
        assert_eq!(environment.overlay().get("gone"), None);
    }

    #[test]
    fn secret_params_are_put_in_and_hidden() {
        let param = |key: &str, value: &str| SecretParam {
            secret_config_id: "id".into(),
            key: key.into(),
            value: Some(Secret::from(value)),
            resolved: true,
        };
        let environment = environment(vec![EnvironmentVariable {
            secret_params: vec![param("u", "bob"), param("p", "pw")],
            ..EnvironmentVariable::plain("A", "abc_{{SECRET:[id][u]}}@foo@{{SECRET:[id][p]}}_x")
        }]);
        assert_eq!(environment.overlay().get("A"), Some(&"abc_bob@foo@pw_x"));
        assert_eq!(environment.secrets(), ["abc_bob@foo@pw_x"]);
    }
}
