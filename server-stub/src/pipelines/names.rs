//! What names and paths may look like (GoCD's rules).

const MAX_NAME: usize = 255;

/// Between the name of a job that runs on all agents, and the number of one of its instances.
pub const ON_ALL: &str = "-runOnAll-";

/// The same of a job that runs so many times.
pub const COUNTED: &str = "-runInstance-";

/// Pipelines, groups, stages, environments and materials.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(format!(
            "`{name}` is no name: letters, digits, `_`, `-` and `.` are allowed, and the first is no `.`"
        ));
    }
    check_length(name)
}

/// Jobs may begin with a point, but not look like one of several instances.
pub fn check_job_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    // `.` and `..` would be steps in the addresses and folders made of the name.
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(allowed) {
        return Err(format!(
            "`{name}` is no name for a job: letters, digits, `_`, `-` and `.` are allowed"
        ));
    }
    for marker in [ON_ALL, COUNTED] {
        if instance(name, marker).is_some() {
            return Err(format!(
                "`{name}` ends in `{marker}N`, which is kept for jobs that run in several instances"
            ));
        }
    }
    check_length(name)
}

/// The name and the number of an instance of a job.
pub fn instance<'n>(name: &'n str, marker: &str) -> Option<(&'n str, &'n str)> {
    let (name, number) = name.rsplit_once(marker)?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some((name, number))
}

fn check_length(name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!(
            "the name has {} characters; at most {MAX_NAME} are allowed",
            name.len()
        ));
    }
    Ok(())
}

/// Word characters, `-`, `.`, `|` and blanks.
pub fn check_resource(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '|' | ' ');
    if name.trim().is_empty() || !name.chars().all(allowed) {
        return Err(format!(
            "`{name}` is no resource: letters, digits, `_`, `-`, `.`, `|` and blanks are allowed"
        ));
    }
    check_length(name)
}

/// A path that stays inside of the job's folder.
pub fn check_inside(path: &str) -> Result<(), String> {
    if path.starts_with('/') || path.starts_with('\\') {
        return Err(format!("`{path}` is absolute; a relative path is needed"));
    }
    if path.split(['/', '\\']).any(|part| part == "..") {
        return Err(format!("`{path}` leads out of the job's folder"));
    }
    if path.contains('\0') {
        return Err("a path with a NUL character".to_owned());
    }
    Ok(())
}
