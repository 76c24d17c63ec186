//! A disk that fills up under the server, and is emptied again.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use pretty_assertions::assert_eq;
use reqwest::multipart::{Form, Part};

use crate::{
    agent::Agent,
    console::{console, put_at},
    server::{Answer, Server, answer},
};

/// What uploads leave free.
const RESERVE: u64 = 100 << 20;

/// A file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None`, with the reason printed, where this may not be done.
    #[expect(clippy::print_stderr, reason = "why a test did nothing")]
    fn new(folder: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder)
            .output();
        let why = match output {
            Ok(output) if output.status.success() => return Some(Self(folder.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped, no file system can be mounted here: {why}");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the server may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn upload(agent: &Agent<'_>, folder: &str) -> Answer {
    let path = format!("/remoting/files/web/1/build/1/unit/{folder}?attempt=1");
    let part = Part::bytes(vec![7; 4096]).file_name("a.bin");
    let request = agent.signed(agent.server.post(&path));
    let request = request.header("X-GoCD-Confirm", "true");
    answer(request.multipart(Form::new().part("file", part))).await
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_what_was_acknowledged_stays() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let Some(_mount) = Mount::new(&data, "size=150m") else {
        return;
    };
    let mut server = Server::start_in(folder).await;
    server.add_pipeline().await;
    let agent = Agent::registered(&server).await;
    server.trigger().await;
    let job = agent.job().await;
    assert_eq!(put_at(&agent, &job, "0", "one\n").await, (200, Some(4)));
    assert_eq!(upload(&agent, "first").await.status, 201);

    // Less is free than uploads must leave.
    let filler = data.join("filler");
    let free = nix::sys::statvfs::statvfs(&data).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    let most = usize::try_from(free - RESERVE / 2).unwrap();
    fs::write(&filler, vec![1; most]).unwrap();
    refuses_files(&agent, &job).await;

    // Nothing is free.
    let mut file = fs::File::options().append(true).open(&filler).unwrap();
    let full = std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    refuses_files(&agent, &job).await;
    // What has to be written down may find room in what the database has, or is refused in words.
    for _ in 0..20 {
        let accepted = agent.report_state(&job, "Preparing").await;
        let scheduled = server.confirm("/api/pipelines/web/schedule").await;
        for said in [accepted, scheduled] {
            match said.status {
                200 | 202 | 409 => {}
                507 => assert!(said.text.contains("disk is full"), "{said:?}"),
                _ => panic!("{said:?}"),
            }
        }
    }
    assert!(server.json("/api/version").await["version"].is_string());
    assert_eq!(console(&server, "").await, "one\n");

    // Space is free when nobody has the file open any more.
    drop(file);
    fs::remove_file(&filler).unwrap();
    assert_eq!(put_at(&agent, &job, "4", "two\n").await, (200, Some(8)));
    assert_eq!(upload(&agent, "second").await.status, 201);
    assert_eq!(agent.report_state(&job, "Building").await.status, 200);
    let done = agent
        .report_result("report_completed", &job, "Passed")
        .await;
    assert_eq!(done.status, 200, "{done:?}");
    let (uuid, token) = (agent.uuid.clone(), agent.token.clone());
    server.kill_nine_and_restart().await;
    assert_eq!(console(&server, "").await, "one\ntwo\n");
    let passed = ("Completed".to_owned(), "Passed".to_owned());
    assert_eq!(server.job_state(1).await, passed);
    let agent = Agent {
        server: &server,
        uuid,
        token,
        cookie: None,
    };
    for folder in ["first", "second"] {
        let path = format!("/remoting/files/web/1/build/1/unit/{folder}");
        let stored = answer(agent.signed(server.get(&path))).await;
        assert_eq!((stored.status, stored.text.len()), (200, 4096), "{folder}");
    }
}

async fn refuses_files(agent: &Agent<'_>, job: &serde_json::Value) {
    assert_eq!(put_at(agent, job, "4", "two\n").await.0, 413);
    let refused = upload(agent, "refused").await;
    assert_eq!(refused.status, 413, "{refused:?}");
    assert!(refused.text.contains("Free some space"), "{refused:?}");
    assert_eq!(agent.ping("Building").await, "\"NONE\"");
}
