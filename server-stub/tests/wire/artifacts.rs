//! Uploads, which may lie in everything they say, and downloads.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pretty_assertions::assert_eq;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sha1::Digest as _;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{
    agent::Agent,
    server::{Answer, Server, answer},
};

const JOB: &str = "/remoting/files/web/1/build/1/unit";

/// A zip of files and, with a slash at the end of the name, folders.
fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for (name, content) in entries {
        if name.ends_with('/') {
            writer.add_directory(*name, options).unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

fn zip_part(zip: Vec<u8>) -> Form {
    Form::new().part("zipfile", Part::bytes(zip).file_name("a.zip"))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// An agent with a job that takes uploads.
async fn building(server: &Server) -> (Agent<'_>, Value) {
    server.add_pipeline().await;
    let agent = Agent::registered(server).await;
    server.trigger().await;
    let job = agent.job().await;
    (agent, job)
}

async fn upload(agent: &Agent<'_>, folder: &str, form: Form) -> Answer {
    let request = agent.signed(agent.server.post(&format!("{JOB}/{folder}?attempt=1")));
    let request = request.header("X-GoCD-Confirm", "true");
    answer(request.multipart(form)).await
}

async fn download(agent: &Agent<'_>, path: &str) -> (u16, Vec<u8>) {
    let request = agent.signed(agent.server.get(&format!("{JOB}{path}")));
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap().to_vec())
}

/// Every file below a folder, with its content; the database and the like are left out.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(items) = fs::read_dir(&next) else {
            continue;
        };
        for item in items {
            let path = item.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read(&path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_upload_is_unpacked_and_served() {
    let server = Server::start().await;
    let (agent, job) = building(&server).await;
    let zip = zip(&[
        ("artdir/", ""),
        ("artdir/a b.txt", "hello"),
        ("artdir/sub/c#.txt", "hi"),
    ]);
    let sums = "#\n#Sat Aug 01 10:11:12 UTC 2026\npkg/out/artdir/a\\ b.txt=5d41402abc4b2a76b9719d911017c592\n";
    let form = zip_part(zip).part("file_checksum", Part::text(sums).file_name("checksum_file"));
    let stored = upload(&agent, "pkg/out", form).await;
    assert_eq!(stored.status, 201, "{stored:?}");

    let (status, content) = download(&agent, "/pkg/out/artdir/a%20b.txt").await;
    assert_eq!((status, sha256(&content)), (200, sha256(b"hello")));
    assert_eq!(
        download(&agent, "/pkg/out/artdir/sub/c%23.txt").await,
        (200, b"hi".to_vec())
    );

    // A second upload adds to both; without a folder it goes to the root.
    let form = zip_part(self::zip(&[("top.txt", "top")])).part(
        "file_checksum",
        Part::text("#\n#date\ntop.txt=x\n").file_name("checksum_file"),
    );
    assert_eq!(upload(&agent, "", form).await.status, 201);
    assert_eq!(download(&agent, "/top.txt").await, (200, b"top".to_vec()));
    let (status, checksums) = download(&agent, "/cruise-output/md5.checksum").await;
    assert_eq!(status, 200);
    assert_eq!(
        String::from_utf8(checksums).unwrap(),
        format!("{sums}#\n#date\ntop.txt=x\n")
    );

    let (status, listing) = download(&agent, "/pkg.json").await;
    assert_eq!(status, 200);
    let listing: Value = serde_json::from_slice(&listing).unwrap();
    let folder = &listing[0]["files"][0];
    assert_eq!(
        (&folder["name"], &folder["type"]),
        (&json!("artdir"), &json!("folder"))
    );
    let names: Vec<&Value> = folder["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, [&json!("sub"), &json!("a b.txt")]);

    // The folder's last name is the root of its zip.
    let (status, bytes) = download(&agent, "/pkg/out/artdir.zip").await;
    assert_eq!(status, 200);
    let archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut names: Vec<String> = archive
        .file_names()
        .map(|it| it.unwrap().into_owned())
        .filter(|it| !it.ends_with('/'))
        .collect();
    names.sort();
    assert_eq!(names, ["artdir/a b.txt", "artdir/sub/c#.txt"]);

    for path in [
        "/none",
        "/pkg/none.txt",
        "/none.zip",
        "/none.json",
        "/pkg/out/artdir/a%20b.txt.zip",
    ] {
        assert_eq!(download(&agent, path).await.0, 404, "{path}");
    }
    let id = job["buildId"].as_i64().unwrap() + 1;
    for path in [
        "web/2/build/1/unit/a",
        "web/1/build/1/no/a",
        &format!("web/1/build/1/unit/top.txt?buildId={id}"),
    ] {
        let path = format!("/remoting/files/{path}");
        let request = agent
            .signed(server.post(&path))
            .header("X-GoCD-Confirm", "true");
        let form = zip_part(self::zip(&[("x", "x")]));
        assert_eq!(answer(request.multipart(form)).await.status, 404, "{path}");
    }
    assert_eq!(
        answer(server.get(&format!("{JOB}/top.txt"))).await.status,
        403
    );
}

#[tokio::test]
async fn a_file_that_is_there_already_is_not_sent_again() {
    let server = Server::start().await;
    let (agent, _) = building(&server).await;
    let form = zip_part(zip(&[("a.txt", "hello")]));
    assert_eq!(upload(&agent, "", form).await.status, 201);
    let digest = |text: &str| {
        let base64 = STANDARD.encode(sha1::Sha1::digest(text.as_bytes()));
        percent_encoding::utf8_percent_encode(&base64, percent_encoding::NON_ALPHANUMERIC)
            .to_string()
    };
    let known = format!("/a.txt?sha1={}", digest("hello"));
    assert_eq!(download(&agent, &known).await, (304, Vec::new()));
    let other = format!("/a.txt?sha1={}", digest("other"));
    assert_eq!(download(&agent, &other).await, (200, b"hello".to_vec()));
}

#[tokio::test]
async fn an_upload_that_is_none_is_refused() {
    let server = Server::start().await;
    let (agent, _) = building(&server).await;
    let good = || zip_part(zip(&[("a.txt", "hello")]));
    let url = format!("{JOB}/pkg?attempt=1");

    let request = agent.signed(server.post(&url));
    assert_eq!(answer(request.multipart(good())).await.status, 400);
    let confirmed = || {
        agent
            .signed(server.post(&url))
            .header("X-GoCD-Confirm", "true")
    };
    let nothing = Form::new().text("something", "else");
    assert_eq!(answer(confirmed().multipart(nothing)).await.status, 400);
    assert_eq!(answer(confirmed().body("no form")).await.status, 400);
    let huge = confirmed().header("X-Go-Artifact-Size", u64::MAX / 4);
    assert_eq!(answer(huge.multipart(good())).await.status, 413);
    let unsigned = server.post(&url).header("X-GoCD-Confirm", "true");
    assert_eq!(answer(unsigned.multipart(good())).await.status, 403);
    assert_eq!(download(&agent, "/pkg/a.txt").await.0, 404);

    // The header's old name.
    let old = agent.signed(server.post(&url)).header("Confirm", "true");
    assert_eq!(answer(old.multipart(good())).await.status, 201);
    // A file where a folder should go.
    let refused = upload(&agent, "pkg/a.txt", good()).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let refused = upload(&agent, "pkg/a.txt/deeper", good()).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(
        download(&agent, "/pkg/a.txt").await,
        (200, b"hello".to_vec())
    );

    for bad in [
        b"no zip".to_vec(),
        Vec::new(),
        zip(&[("a", "x")])[..20].to_vec(),
    ] {
        let refused = upload(&agent, "bad", zip_part(bad)).await;
        assert_eq!(refused.status, 500, "{refused:?}");
    }
    assert_eq!(download(&agent, "/bad.json").await.0, 404);
}

#[tokio::test]
async fn a_zip_that_lies_leaves_nothing_behind() {
    let server = Server::start().await;
    let (agent, _) = building(&server).await;
    assert_eq!(
        upload(&agent, "", zip_part(zip(&[("keep", "kept")])))
            .await
            .status,
        201
    );
    let blobs = server.data().join("blobs");
    let before = files(&blobs);

    for name in [
        "../x",
        "a/../../x",
        "..",
        "/etc/x",
        "//x",
        "a\\..\\x",
        "..\\x",
    ] {
        // A good entry before the bad one is not kept either.
        let refused = upload(
            &agent,
            "evil",
            zip_part(zip(&[("good", "x"), (name, "evil")])),
        )
        .await;
        assert!(matches!(refused.status, 403 | 500), "{name}: {refused:?}");
        assert_eq!(files(&blobs), before, "{name}");
    }
    let mut links = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    links.add_symlink("out", "/tmp", options).unwrap();
    links.start_file("out/x", options).unwrap();
    links.write_all(b"evil").unwrap();
    let links = links.finish().unwrap().into_inner();
    let refused = upload(&agent, "evil", zip_part(links)).await;
    assert!(matches!(refused.status, 403 | 500), "{refused:?}");
    assert_eq!(files(&blobs), before);

    for claimed in [1_u32, 4_000, 0xffff_fffe] {
        let mut lying = zip(&[("bomb", &"0".repeat(5_000))]);
        // Both records of the one entry: the sizes are 22 and 24 bytes in.
        for (signature, at) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
            let start = lying.windows(4).position(|it| it == signature).unwrap();
            lying[start + at..start + at + 4].copy_from_slice(&claimed.to_le_bytes());
        }
        let refused = upload(&agent, "evil", zip_part(lying)).await;
        assert!(
            matches!(refused.status, 413 | 500),
            "{claimed}: {refused:?}"
        );
        assert_eq!(files(&blobs), before, "{claimed}");
    }
    let outside = server.folder.path();
    assert!(!outside.join("x").exists() && !server.data().join("x").exists());
    assert!(files(outside).iter().all(|(_, content)| content != b"evil"));
}

#[tokio::test]
async fn a_path_cannot_leave_the_jobs_folder() {
    let server = Server::start().await;
    let (agent, _) = building(&server).await;
    let headers = [
        ("X-Agent-GUID", agent.uuid.as_str()),
        ("Authorization", &agent.token),
        ("X-GoCD-Confirm", "true"),
        ("Content-Type", "multipart/form-data; boundary=x"),
    ];
    let key = server.data().join("auto-register.key");
    assert!(key.is_file());
    for up in [
        "../../../auto-register.key",
        "%2e%2e/%2e%2e/%2e%2e/auto-register.key",
        "..%2f..%2f..%2fauto-register.key",
        "a/../../../../auto-register.key",
        "%2fetc%2fpasswd",
        "..%00",
    ] {
        for method in ["GET", "PUT", "POST"] {
            for root in [JOB, "/files/web/1/build/1/unit"] {
                let path = format!("{root}/{up}");
                // People have no agent's headers, and say by others who they are.
                let headers = if root == JOB {
                    &headers[..]
                } else {
                    &headers[2..]
                };
                let status = server.raw(method, &path, headers).await;
                assert!(
                    matches!(status, 400 | 403 | 404),
                    "{method} {path}: {status}"
                );
            }
        }
    }
    assert_eq!(fs::read_to_string(key).unwrap().trim(), crate::server::KEY);
}

#[tokio::test]
async fn a_large_upload_that_is_refused_hears_why() {
    let server = Server::start().await;
    let (agent, _) = building(&server).await;
    let url = format!("{JOB}/big?attempt=1");
    let large = || zip_part(vec![7; 24 * 1024 * 1024]);
    let unconfirmed = agent.signed(server.post(&url)).multipart(large());
    assert_eq!(answer(unconfirmed).await.status, 400);
    let no_room = agent
        .signed(server.post(&url))
        .header("X-GoCD-Confirm", "true")
        .header("X-Go-Artifact-Size", u64::MAX / 4);
    assert_eq!(answer(no_room.multipart(large())).await.status, 413);
    let stranger = server.post(&url).header("X-GoCD-Confirm", "true");
    assert_eq!(answer(stranger.multipart(large())).await.status, 403);
}

#[tokio::test]
async fn an_agent_writes_to_its_own_job_only() {
    let server = Server::start().await;
    let (agent, job) = building(&server).await;
    let other = Agent::registered(&server).await;
    let form = || zip_part(zip(&[("a.txt", "hello")]));
    let id = &job["buildId"];
    for query in ["attempt=1".to_owned(), format!("attempt=1&buildId={id}")] {
        let request = other.signed(server.post(&format!("{JOB}/pkg?{query}")));
        let request = request.header("X-GoCD-Confirm", "true");
        let refused = answer(request.multipart(form())).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.text.contains("not this agent's"), "{refused:?}");
        for file in ["a.txt", "cruise-output/console.log"] {
            let url = server.url(&format!("{JOB}/{file}?{query}"));
            let put = other.signed(server.client.put(url)).body("mine");
            let refused = answer(put).await;
            assert_eq!(refused.status, 403, "{file}: {refused:?}");
        }
    }
    assert_eq!(upload(&agent, "", form()).await.status, 201);
    assert_eq!(download(&other, "/a.txt").await, (200, b"hello".to_vec()));
}
