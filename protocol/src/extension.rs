//! Headers that only our own server and agent use. A GoCD server ignores the requests' and sends
//! none of the answers', so an agent always knows whom it talks to.

/// Answer to every call: the version of the server, which says that it is ours.
pub const JOURNEYMAN_SERVER: &str = "Journeyman-Server";

/// Request of `get_work` and `ping` (RFC 7240): `wait=<seconds>`, how long the server may hold the
/// call until there is work, or an instruction about the job that runs. See [`prefer_wait`] and [`parse_prefer_wait`].
pub const PREFER: &str = "Prefer";

/// Request of a console PUT: bytes of the log before this body, in decimal. The server skips what
/// it already has, so that a PUT can be repeated.
pub const JOURNEYMAN_CONSOLE_OFFSET: &str = "Journeyman-Console-Offset";

/// Answer to a console PUT: bytes of the log the server now has, in decimal.
pub const JOURNEYMAN_CONSOLE_LENGTH: &str = "Journeyman-Console-Length";

/// Value of [`PREFER`] for a wait in seconds.
pub fn prefer_wait(seconds: u32) -> String {
    format!("wait={seconds}")
}

/// The wait in seconds that a value of [`PREFER`] asks for, among other preferences or alone.
pub fn parse_prefer_wait(value: &str) -> Option<u32> {
    value.split(',').find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, seconds) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        seconds.trim().trim_matches('"').parse().ok()
    })
}
