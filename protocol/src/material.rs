//! Materials: what a pipeline is built from.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    document::{ConfigErrors, Document, Opaque},
    environment::{SecretParam, resolve_secrets},
    name::CaseInsensitiveString,
    secret::Secret,
};

/// A material of any kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Material {
    /// Git.
    GitMaterial(GitMaterial),
    /// Mercurial.
    HgMaterial(HgMaterial),
    /// Subversion.
    SvnMaterial(SvnMaterial),
    /// Perforce.
    P4Material(P4Material),
    /// Team Foundation Server.
    TfsMaterial(TfsMaterial),
    /// A stage of another pipeline.
    DependencyMaterial(DependencyMaterial),
    /// A package, found by a plugin.
    PackageMaterial(PackageMaterial),
    /// A repository that only a plugin can check out.
    PluggableSCMMaterial(PluggableScmMaterial),
    /// A kind that this version does not know: a job that must check it out fails.
    #[serde(untagged)]
    Unknown(Document),
}

/// What every material has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MaterialAttributes {
    /// Name given by the pipeline's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<CaseInsensitiveString>,
    /// The same word as `type`.
    pub material_type: String,
    /// Number in the server's database; -1 in work.
    pub id: i64,
}

/// What every material has that is a repository of source code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScmAttributes {
    /// Files whose changes do not trigger the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Vec<IgnoredFiles>>,
    /// Folder to check out to, relative to the pipeline's; its root if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Whether the server polls the repository.
    pub auto_update: bool,
    /// Whether the filter names what triggers, rather than what does not.
    pub invert_filter: bool,
    /// User to log in as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Password, with references to the secret params still in it: see
    /// [`resolved_password`](Self::resolved_password).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The secrets that the password refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_params_for_password: Option<Vec<SecretParam>>,
    /// What every material has.
    #[serde(flatten)]
    pub attributes: MaterialAttributes,
}

/// A pattern of the filter of a material.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IgnoredFiles {
    /// Ant-style pattern, relative to the root of the repository.
    pub pattern: String,
    /// Sometimes sent; of no use to an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed_pattern: Option<String>,
    /// Always `{}` in work.
    pub config_errors: ConfigErrors,
}

/// Git.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GitMaterial {
    /// Repository; it may have user and password in it.
    pub url: UrlArgument,
    /// A branch, or a refspec `src:dst`.
    pub ref_spec_or_branch: String,
    /// Whether to fetch only what is needed.
    pub shallow_clone: bool,
    /// Sent by the server if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submodule_folder: Option<String>,
    /// What every repository has.
    #[serde(flatten)]
    pub scm: ScmAttributes,
}

/// Mercurial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HgMaterial {
    /// Repository; it may have user and password in it.
    pub url: UrlArgument,
    /// Branch, if not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What every repository has.
    #[serde(flatten)]
    pub scm: ScmAttributes,
}

/// Subversion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SvnMaterial {
    /// Whether to poll externals too.
    pub check_externals: bool,
    /// Repository.
    pub url: UrlArgument,
    /// What every repository has.
    #[serde(flatten)]
    pub scm: ScmAttributes,
}

/// Perforce.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct P4Material {
    /// `host:port`.
    pub server_and_port: String,
    /// Whether to log in with a ticket.
    pub use_tickets: bool,
    /// What of the depot goes where.
    pub view: P4View,
    /// What every repository has.
    #[serde(flatten)]
    pub scm: ScmAttributes,
}

/// A view of a Perforce depot, as text of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct P4View {
    /// The lines.
    pub value: String,
    /// Always `{}` in work.
    pub config_errors: ConfigErrors,
}

/// Team Foundation Server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TfsMaterial {
    /// Team project collection.
    pub url: UrlArgument,
    /// Windows domain of the user.
    pub domain: String,
    /// Path of the project, such as `$/proj`.
    pub project_path: String,
    /// What every repository has.
    #[serde(flatten)]
    pub scm: ScmAttributes,
}

/// A stage of another pipeline. An agent has nothing to check out for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DependencyMaterial {
    /// The upstream pipeline.
    pub pipeline_name: CaseInsensitiveString,
    /// Its stage that must have passed.
    pub stage_name: CaseInsensitiveString,
    /// Whether a run of it does not trigger this pipeline.
    pub ignore_for_scheduling: bool,
    /// What every material has.
    #[serde(flatten)]
    pub attributes: MaterialAttributes,
}

/// A package, found by a plugin. An agent has nothing to check out for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PackageMaterial {
    /// Name of the package definition.
    pub package_id: String,
    /// The package definition with its repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<Opaque>,
    /// What every material has.
    #[serde(flatten)]
    pub attributes: MaterialAttributes,
}

/// A repository of source code that only a plugin can check out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluggableScmMaterial {
    /// Name of the SCM definition.
    pub scm_id: String,
    /// The SCM definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scm: Option<Opaque>,
    /// As [`ScmAttributes::folder`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// As [`ScmAttributes::filter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Vec<IgnoredFiles>>,
    /// As [`ScmAttributes::invert_filter`].
    pub invert_filter: bool,
    /// What every material has.
    #[serde(flatten)]
    pub attributes: MaterialAttributes,
}

/// The URL of a repository, `{"url":".."}` on the wire. `Debug` shows it without its password.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct UrlArgument {
    /// Always `#` in Mercurial materials and absent in others: a constant of the Java class.
    #[serde(rename = "SINGLE_HASH", skip_serializing_if = "Option::is_none")]
    pub single_hash: Option<String>,
    /// The URL as configured, user and password included.
    pub url: String,
}

// === impl Material ===

impl Material {
    /// The value of `type`.
    pub fn kind(&self) -> &str {
        match self {
            Self::GitMaterial(_) => "GitMaterial",
            Self::HgMaterial(_) => "HgMaterial",
            Self::SvnMaterial(_) => "SvnMaterial",
            Self::P4Material(_) => "P4Material",
            Self::TfsMaterial(_) => "TfsMaterial",
            Self::DependencyMaterial(_) => "DependencyMaterial",
            Self::PackageMaterial(_) => "PackageMaterial",
            Self::PluggableSCMMaterial(_) => "PluggableSCMMaterial",
            Self::Unknown(document) => &document.kind,
        }
    }

    /// What every material has; nothing is known of an unknown one.
    pub fn attributes(&self) -> Option<&MaterialAttributes> {
        match self {
            Self::DependencyMaterial(material) => Some(&material.attributes),
            Self::PackageMaterial(material) => Some(&material.attributes),
            Self::PluggableSCMMaterial(material) => Some(&material.attributes),
            _ => self.scm().map(|scm| &scm.attributes),
        }
    }

    /// What every repository has that an agent can check out without a plugin.
    pub fn scm(&self) -> Option<&ScmAttributes> {
        match self {
            Self::GitMaterial(material) => Some(&material.scm),
            Self::HgMaterial(material) => Some(&material.scm),
            Self::SvnMaterial(material) => Some(&material.scm),
            Self::P4Material(material) => Some(&material.scm),
            Self::TfsMaterial(material) => Some(&material.scm),
            _ => None,
        }
    }

    /// The text whose SHA-256, in lower-case hex, is the material's fingerprint. Known for git
    /// and dependencies. It may hold a password, as the URL of the material may.
    pub fn fingerprint_text(&self) -> Option<String> {
        match self {
            Self::GitMaterial(git) => Some(format!(
                "type=GitMaterial<|>url={}<|>branch={}",
                git.url.url, git.ref_spec_or_branch
            )),
            Self::DependencyMaterial(dependency) => Some(format!(
                "type=DependencyMaterial<|>pipelineName={}<|>stageName={}",
                dependency.pipeline_name, dependency.stage_name
            )),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Material {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        match document.kind.as_str() {
            "GitMaterial" => document.read().map(Self::GitMaterial),
            "HgMaterial" => document.read().map(Self::HgMaterial),
            "SvnMaterial" => document.read().map(Self::SvnMaterial),
            "P4Material" => document.read().map(Self::P4Material),
            "TfsMaterial" => document.read().map(Self::TfsMaterial),
            "DependencyMaterial" => document.read().map(Self::DependencyMaterial),
            "PackageMaterial" => document.read().map(Self::PackageMaterial),
            "PluggableSCMMaterial" => document.read().map(Self::PluggableSCMMaterial),
            _ => Ok(Self::Unknown(document)),
        }
    }
}

// === impl MaterialAttributes ===

impl MaterialAttributes {
    /// Attributes of a nameless material of a kind, such as `GitMaterial`.
    pub fn of_type(material_type: impl Into<String>) -> Self {
        Self {
            name: None,
            material_type: material_type.into(),
            id: -1,
        }
    }
}

// === impl ScmAttributes ===

impl ScmAttributes {
    /// The password to log in with: every reference in it replaced by its secret.
    pub fn resolved_password(&self) -> Option<Secret> {
        let password = self.password.as_ref()?;
        let params = self.secret_params_for_password.as_deref().unwrap_or(&[]);
        Some(resolve_secrets(password.expose(), params).into())
    }
}

// === impl GitMaterial ===

impl GitMaterial {
    /// A repository checked out to the pipeline's own folder.
    pub fn new(url: impl Into<String>, branch: impl Into<String>) -> Self {
        Self {
            url: UrlArgument::from(url.into()),
            ref_spec_or_branch: branch.into(),
            scm: ScmAttributes {
                auto_update: true,
                attributes: MaterialAttributes::of_type("GitMaterial"),
                ..ScmAttributes::default()
            },
            ..Self::default()
        }
    }
}

// === impl DependencyMaterial ===

impl DependencyMaterial {
    /// A dependency on a stage of another pipeline.
    pub fn new(pipeline_name: impl Into<String>, stage_name: impl Into<String>) -> Self {
        Self {
            pipeline_name: CaseInsensitiveString::new(pipeline_name),
            stage_name: CaseInsensitiveString::new(stage_name),
            ignore_for_scheduling: false,
            attributes: MaterialAttributes::of_type("DependencyMaterial"),
        }
    }
}

// === impl UrlArgument ===

impl UrlArgument {
    /// The URL with `******` for the password, or for the user if there is no password; a lone
    /// user of ssh stays. The scp form `git@host:path` is shown as it is.
    pub fn for_display(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return self.url.clone();
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let Some((user_info, host)) = authority.rsplit_once('@') else {
            return self.url.clone();
        };
        match user_info.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:******@{host}{path}"),
            None if matches!(scheme, "ssh" | "svn+ssh") => self.url.clone(),
            None => format!("{scheme}://******@{host}{path}"),
        }
    }
}

impl From<String> for UrlArgument {
    fn from(url: String) -> Self {
        Self {
            single_hash: None,
            url,
        }
    }
}

impl fmt::Debug for UrlArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.for_display())
    }
}
