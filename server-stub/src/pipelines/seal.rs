//! Secrets that stand in plain text in a configuration are encrypted before they are stored.

use openssl::error::ErrorStack;

use super::cipher::{self, Cipher};
use super::definition::{Configuration, Material, Variable};

impl Configuration {
    /// Encrypts every password and secure variable that is not encrypted yet, and whole files of
    /// templates.
    ///
    /// # Errors
    ///
    /// There is no randomness to be had.
    pub fn seal(&mut self, cipher: &Cipher) -> Result<(), ErrorStack> {
        for pipeline in &mut self.pipelines {
            for material in &mut pipeline.materials {
                if let Material::Git(git) = material
                    && let Some(password) = &mut git.password
                {
                    seal(cipher, password)?;
                }
            }
            seal_all(cipher, &mut pipeline.variables)?;
            for stage in &mut pipeline.stages {
                seal_all(cipher, &mut stage.variables)?;
                for job in &mut stage.jobs {
                    seal_all(cipher, &mut job.variables)?;
                }
            }
        }
        for file in &mut self.templates {
            file.content = cipher.encrypt(&file.content)?;
        }
        for environment in &mut self.environments {
            seal_all(cipher, &mut environment.variables)?;
        }
        Ok(())
    }
}

fn seal_all(cipher: &Cipher, variables: &mut [Variable]) -> Result<(), ErrorStack> {
    let secrets = variables.iter_mut().filter(|variable| variable.secure);
    for variable in secrets {
        seal(cipher, &mut variable.value)?;
    }
    Ok(())
}

fn seal(cipher: &Cipher, value: &mut String) -> Result<(), ErrorStack> {
    if cipher::check_form(value).is_err() {
        *value = cipher.encrypt(value)?;
    }
    Ok(())
}
