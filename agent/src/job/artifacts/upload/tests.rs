use std::{
    fs,
    io::Cursor,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Multipart, Request, State},
    http::HeaderMap,
};
use jiff::Zoned;
use pretty_assertions::assert_eq;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::job::bench;

/// What a server got in one upload.
#[derive(Debug, Clone, Default)]
struct Upload {
    uri: String,
    size: String,
    is_chunked: bool,
    names: Vec<String>,
    checksums: String,
}

struct Bench {
    dir: TempDir,
    root: PathBuf,
    console: Console,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("work")).unwrap();
        let console = bench::console(&root);
        Self { dir, root, console }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join("work").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    async fn upload(
        &self,
        listener: &TcpListener,
        item: &Path,
        dest: &str,
    ) -> Result<(), UploadError> {
        let server = bench::server(listener.local_addr().unwrap(), &self.root);
        let uploader = Uploader {
            server: &server,
            console: &self.console,
            pauses: Pauses {
                first: Duration::from_millis(5),
                longest: Duration::from_millis(5),
                early_answer: Duration::from_millis(200),
            },
        };
        uploader.upload(item, dest).await
    }

    fn lines(&self) -> Vec<String> {
        bench::lines(self.dir.path(), self.root.to_str().unwrap())
    }
}

/// Bytes that cannot be packed any smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// A server that takes everything.
async fn taker() -> (TcpListener, Arc<Mutex<Vec<Upload>>>) {
    async fn take(
        State(uploads): State<Arc<Mutex<Vec<Upload>>>>,
        headers: HeaderMap,
        uri: axum::http::Uri,
        request: Request,
    ) -> StatusCode {
        use axum::extract::FromRequest as _;
        let mut upload = Upload {
            uri: uri.to_string(),
            size: headers["X-Go-Artifact-Size"].to_str().unwrap().to_owned(),
            is_chunked: !headers.contains_key("Content-Length"),
            ..Upload::default()
        };
        let mut parts = Multipart::from_request(request, &()).await.unwrap();
        while let Some(part) = parts.next_field().await.unwrap() {
            if part.name() == Some("zipfile") {
                let zip = Cursor::new(part.bytes().await.unwrap());
                let zip = zip::ZipArchive::new(zip).unwrap();
                upload.names = zip
                    .file_names()
                    .map(|name| name.unwrap().into_owned())
                    .collect();
                upload.names.sort();
            } else {
                upload.checksums = part.text().await.unwrap();
            }
        }
        uploads.lock().unwrap().push(upload);
        StatusCode::CREATED
    }
    let uploads = Arc::new(Mutex::new(Vec::new()));
    let router = Router::new()
        .fallback(take)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&uploads));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let served = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
    tokio::spawn(async move { axum::serve(served, router).await.unwrap() });
    (TcpListener::from_std(listener).unwrap(), uploads)
}

/// Reads the head of a request.
async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap();
        head.push(byte);
    }
}

#[tokio::test]
async fn folders_go_with_all_that_links_in_them_lead_to() {
    let bench = Bench::new();
    let (listener, uploads) = taker().await;
    bench.write("d/a.txt", "hello");
    bench.write("d/sub/b.txt", "hi");
    bench.write("elsewhere/c", "0123456789");
    let folder = bench.root.join("work/d");
    fs::create_dir(folder.join("empty")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", folder.join("link")).unwrap();
    std::os::unix::fs::symlink("a.txt", folder.join("file-link")).unwrap();
    bench.upload(&listener, &folder, "out").await.unwrap();
    let upload = uploads.lock().unwrap().remove(0);
    assert_eq!(
        upload.names,
        [
            "d/",
            "d/a.txt",
            "d/empty/",
            "d/file-link",
            "d/link/",
            "d/link/c",
            "d/sub/",
            "d/sub/b.txt"
        ]
    );
    // 5 and 2 bytes, and the lengths of `../elsewhere` and `a.txt`: GoCD's count.
    assert_eq!(upload.size, (5 + 2 + 12 + 5).to_string());
    assert!(upload.is_chunked);
    assert_eq!(
        upload.uri,
        "/go/remoting/files/web/42/build/1/unit/out?attempt=1&buildId=1234"
    );
    let mut sums: Vec<&str> = upload.checksums.lines().skip(2).collect();
    sums.sort_unstable();
    assert_eq!(
        sums,
        [
            "out/d/a.txt=5d41402abc4b2a76b9719d911017c592",
            "out/d/file-link=5d41402abc4b2a76b9719d911017c592",
            "out/d/link/c=781e5e245d69b566979b86e28d23f2c7",
            "out/d/sub/b.txt=49f68a5c8493ec2c0bf489821c21fc3b",
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_tried_three_times_and_never_said_to_be_uploading() {
    let bench = Bench::new();
    let (listener, uploads) = taker().await;
    bench.write("d/a", "a");
    let folder = bench.root.join("work/d");
    let failed = "ae|[go] Failed to upload ~/work/d";
    std::os::unix::fs::symlink("nowhere", folder.join("dangling")).unwrap();
    bench.upload(&listener, &folder, "").await.unwrap_err();
    assert_eq!(bench.lines(), [failed; 3]);
    fs::remove_file(folder.join("dangling")).unwrap();
    std::os::unix::fs::symlink("..", folder.join("loop")).unwrap();
    bench.upload(&listener, &folder, "").await.unwrap_err();
    assert_eq!(bench.lines()[3..], [failed; 3]);
    fs::remove_file(folder.join("loop")).unwrap();
    let strange = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9");
    fs::write(folder.join::<&std::ffi::OsStr>(strange), "x").unwrap();
    bench.upload(&listener, &folder, "").await.unwrap_err();
    let lines = &bench.lines()[6..];
    assert!(
        lines[0].starts_with("ae|[go] Cannot publish ~/work/d: the name of ~/work/d/caf"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], [failed; 3]);
    bench
        .upload(&listener, &bench.root.join("work/none"), "")
        .await
        .unwrap_err();
    assert_eq!(bench.lines()[10..], ["ae|[go] Failed to find ~/work/none"]);
    assert!(uploads.lock().unwrap().is_empty());
}

/// A server that refuses by the headers alone, as GoCD's does when its disk is full, and closes
/// the connection in the middle of the body.
#[tokio::test]
async fn an_answer_in_the_middle_of_the_body_is_understood() {
    let bench = Bench::new();
    let item = bench.write("big", noise(20 << 20));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let answer =
                b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            // The client may have seen the end of the connection before.
            let _ = stream.write_all(answer).await;
        }
    };
    let error = tokio::select! {
        uploaded = bench.upload(&listener, &item, "") => uploaded.unwrap_err(),
        () = refusing => unreachable!(),
    };
    assert!(
        error.to_string().ends_with("HTTP return code is 413"),
        "{error}"
    );
    assert_eq!(
        bench.lines(),
        [
            "ar|[go] Uploading artifacts from ~/work/big to [defaultRoot]",
            "ae|[go] Artifact upload for file ~/work/big (Size: 20971520) was denied by the server. \
             This usually happens when server runs out of disk space.",
            "ae|[go] Failed to upload ~/work/big",
        ]
    );
}

/// A server that answers and neither reads on nor closes.
#[tokio::test]
async fn an_answer_ends_the_sending_of_what_nobody_reads() {
    let bench = Bench::new();
    let item = bench.write("big", noise(20 << 20));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answering = async {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            held.push(stream);
        }
    };
    let error = tokio::select! {
        uploaded = bench.upload(&listener, &item, "x") => uploaded.unwrap_err(),
        () = answering => unreachable!(),
    };
    assert_eq!(
        error.to_string(),
        format!(
            "Failed to upload {}.  HTTP return code is 500",
            item.display()
        )
    );
    assert_eq!(bench.lines().len(), 6);
}

/// A connection that breaks in the middle is tried again like a server that is away, and counts as
/// a failed attempt if that is no help.
#[tokio::test]
async fn a_body_that_breaks_again_and_again_is_given_up() {
    let bench = Bench::new();
    let item = bench.write("big", noise(4 << 20));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut connections = 0;
    let breaking = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections += 1;
            read_head(&mut stream).await;
            // Some of the body, so that it has begun.
            let mut some = vec![0; 100_000];
            let _ = stream.read_exact(&mut some).await;
        }
    };
    let error = tokio::select! {
        uploaded = bench.upload(&listener, &item, "x") => uploaded.unwrap_err(),
        () = breaking => unreachable!(),
    };
    assert!(matches!(error, UploadError::Broken(_)), "{error}");
    assert_eq!(connections, 6);
    assert_eq!(bench.lines().len(), 6);
}

#[test]
fn what_vanishes_while_it_is_packed_is_no_success() {
    let bench = Bench::new();
    for n in 0..20 {
        bench.write(&format!("d/{n}"), noise(1 << 20));
    }
    let (to, mut packed) = mpsc::channel(1);
    let folder = bench.root.join("work/d");
    let packing = std::thread::spawn({
        let folder = folder.clone();
        move || packing::pack(&folder, "", &Zoned::now(), &mut Chunks::new(to))
    });
    packed.blocking_recv().unwrap().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    while packed.blocking_recv().is_some() {}
    assert_eq!(
        packing.join().unwrap().unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn only_destinations_that_lead_out_are_refused() {
    for inside in ["", ".", "/", "a/../b", "a/b/../..", "..a/b..", "/a//../b/"] {
        assert!(!leaves(inside), "{inside}");
    }
    for outside in ["..", "../a", "/..", "a/../..", "a/../../a", "./.."] {
        assert!(leaves(outside), "{outside}");
    }
}
