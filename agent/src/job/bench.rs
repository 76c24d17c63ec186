//! What the tests of fetches and uploads share: a console that can be read, a server by its URL.

use std::{fs, path::Path, sync::Arc};

use journeyman_protocol::{agent::AgentRuntimeInfo, job::JobIdentifier};

use super::{
    channel::ServerConnection,
    console::{Charset, Console},
    folder::JobFolder,
    server::{CookieSource, JobServer},
    spool::SpoolWriter,
};

/// A console whose lines go to the file `console` in a folder.
pub(crate) fn console(folder: &Path) -> Console {
    Console::new(
        SpoolWriter::open(&folder.join("console")).unwrap(),
        Charset::for_name("utf-8"),
        Arc::new(jiff::Zoned::now),
    )
}

/// `tag|text` of each line so far, `hidden` shown as `~`.
pub(crate) fn lines(folder: &Path, hidden: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join("console")).unwrap();
    text.replace(hidden, "~")
        .lines()
        .map(|line| format!("{}{}", &line[..3], &line[16..]))
        .collect()
}

/// The server at `address` as the job `web/42/build/1/unit` sees it.
pub(crate) fn server(address: std::net::SocketAddr, root: &Path) -> JobServer {
    let base_url = format!("http://{address}/go");
    JobServer::new(
        reqwest::Client::new(),
        ServerConnection {
            configured_url: base_url.clone(),
            base_url,
            is_journeyman: false,
            arguments: Vec::new(),
        },
        AgentRuntimeInfo::default(),
        JobIdentifier {
            pipeline_name: "web".into(),
            pipeline_counter: 42,
            pipeline_label: "1.0.42".into(),
            stage_name: "build".into(),
            stage_counter: "1".into(),
            build_name: "unit".into(),
            build_id: 1234,
            ..JobIdentifier::default()
        },
        root,
        CookieSource::Job(JobFolder::new(root)),
    )
}
