//! Keeping the client's TLS library from reading the system's root certificates when none of them
//! will be trusted.
//!
//! native-tls parses the system's whole bundle for every client, also for one that is told to trust
//! only its own roots: 40 ms and 2 MB at each start of launcher and agent. Where the bundle is, it
//! asks the environment (`SSL_CERT_FILE`) at the first client of a process, and remembers.

use std::{env, ffi::OsString, fs};

use reqwest::{Client, ClientBuilder};

/// Where OpenSSL's bundle of root certificates is, if it is not at the usual place.
const BUNDLE: &str = "SSL_CERT_FILE";
/// A bundle without certificates.
const EMPTY: &str = "/dev/null";

/// Builds a client that needs none of the system's roots. Whether the bundle is read or not makes
/// no difference to what the client trusts.
pub(crate) fn build_without(builder: ClientBuilder) -> reqwest::Result<Client> {
    // The environment may only be changed while nobody else can read it.
    let _hidden = is_single_threaded().then(HiddenBundle::new);
    builder.build()
}

/// The variable has its old value again when this is dropped: children, which are jobs in the end,
/// must not inherit ours.
struct HiddenBundle {
    before: Option<OsString>,
}

impl HiddenBundle {
    #[expect(unsafe_code, reason = "the environment has no safe way to be changed")]
    fn new() -> Self {
        let before = env::var_os(BUNDLE);
        // SAFETY: the caller has seen that this process has no other thread.
        unsafe { env::set_var(BUNDLE, EMPTY) };
        Self { before }
    }
}

impl Drop for HiddenBundle {
    #[expect(unsafe_code, reason = "the environment has no safe way to be changed")]
    fn drop(&mut self) {
        // SAFETY: building a client starts no thread, so there is still only this one.
        unsafe {
            match &self.before {
                Some(value) => env::set_var(BUNDLE, value),
                None => env::remove_var(BUNDLE),
            }
        }
    }
}

fn is_single_threaded() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
