use std::{
    cell::RefCell,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use journeyman_host::arguments::ConnectionArguments;
use journeyman_packaging::{Build, keygen, package};
use journeyman_protocol::release::{PackageRef, UpgradeState::*};
use ring::digest::{SHA256, digest as sha256_of};
use tempfile::TempDir;

use super::*;

/// What a server does with a request for a package: it is given the package and the byte it was
/// asked to begin at, and writes an answer.
type Act = fn(&[u8], Option<usize>, &mut TcpStream);

/// As our server does.
const WELL: Act = |package, from, stream| match from {
    None => respond(stream, "200 OK", "", package.len(), package),
    Some(from) if from < package.len() => {
        let end = package.len() - 1;
        let range = format!("Content-Range: bytes {from}-{end}/{}\r\n", package.len());
        let rest = &package[from..];
        respond(stream, "206 Partial Content", &range, rest.len(), rest);
    }
    Some(_) => respond(stream, "416 Range Not Satisfiable", "", 0, b""),
};
/// The connection breaks after a third of the package.
const BREAKS: Act = |package, _, stream| {
    let part = &package[..package.len() / 3];
    respond(stream, "200 OK", "", package.len(), part);
};

fn respond(stream: &mut TcpStream, status: &str, more: &str, length: usize, body: &[u8]) {
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

struct Fixture {
    folder: TempDir,
    workdir: WorkDir,
    offered: ComponentRelease,
    package: Vec<u8>,
    steps: RefCell<Vec<UpgradeState>>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        workdir.prepare().unwrap();
        let (manifest, package) = package(Component::Agent, b"an agent", &Build::new(1));
        let sha256 = sha256_of(&SHA256, &package);
        let sha256 = sha256.as_ref().iter().map(|b| format!("{b:02x}"));
        let offered = ComponentRelease {
            manifest,
            package: PackageRef {
                url: "/package".to_owned(),
                size: package.len() as u64,
                sha256: sha256.collect(),
                signatures: Vec::new(),
            },
        };
        Self {
            folder,
            workdir,
            offered,
            package,
            steps: RefCell::default(),
        }
    }

    fn part(&self) -> PathBuf {
        let name = format!("download-{}.part", self.offered.package.sha256);
        self.workdir.data().join(name)
    }

    /// A download from a server that does these things in turn; and where it was asked to begin.
    fn download(&self, acts: &[Act]) -> (Result<Downloaded, DownloadError>, Vec<Option<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/go", listener.local_addr().unwrap());
        let (send, asked) = mpsc::channel();
        let (acts, package) = (acts.to_vec(), self.package.clone());
        thread::spawn(move || {
            for act in acts {
                let mut stream = listener.accept().unwrap().0;
                let from = first_byte(&stream);
                send.send(from).unwrap();
                act(&package, from, &mut stream);
            }
        });
        let arguments = ConnectionArguments {
            server_url: Some(url),
            ..ConnectionArguments::default()
        };
        let settings = arguments.validate().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let result = runtime.block_on(async {
            let connection = Connection::configured(&self.workdir, &settings).await;
            let on_step = |state| self.steps.borrow_mut().push(state);
            download(&connection.unwrap(), &self.workdir, &self.offered, &on_step).await
        });
        (result, asked.try_iter().collect())
    }

    fn succeeds(&self, acts: &[Act]) -> Vec<Option<usize>> {
        let (result, asked) = self.download(acts);
        let downloaded = result.unwrap();
        assert_eq!(fs::read(downloaded.path()).unwrap(), self.package);
        assert_eq!(asked.len(), acts.len());
        downloaded.installed(&self.offered.manifest);
        assert_eq!(fs::read_dir(self.workdir.data()).unwrap().count(), 0);
        asked
    }

    fn fails(&self, acts: &[Act]) -> String {
        let (result, _) = self.download(acts);
        result.unwrap_err().to_string()
    }
}

fn first_byte(stream: &TcpStream) -> Option<usize> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("range").then_some(value)
    });
    Some(
        range?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .unwrap(),
    )
}

#[test]
fn a_package_is_downloaded_verified_and_gone_once_it_is_installed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.succeeds(&[WELL]), [None]);
    assert_eq!(*fixture.steps.borrow(), [Downloading, Verifying]);
}

#[test]
fn what_is_there_is_not_downloaded_again() {
    let fixture = Fixture::new();
    let third = fixture.package.len() / 3;
    let error = fixture.fails(&[BREAKS]);
    let told = format!("stopped after {third} of {} bytes", fixture.package.len());
    assert!(
        error.contains(&told) && error.contains("/go/package"),
        "{error}"
    );
    assert_eq!(*fixture.steps.borrow(), [Downloading]);
    assert_eq!(fixture.succeeds(&[WELL]), [Some(third)]);

    // As a launcher leaves it that was killed before it unpacked.
    fs::write(fixture.part(), &fixture.package).unwrap();
    assert_eq!(fixture.succeeds(&[]), []);
}

#[test]
fn a_server_that_knows_no_rest_makes_it_start_over() {
    let fixture = Fixture::new();
    let third = fixture.package.len() / 3;
    let whole: Act = |package, _, stream| WELL(package, None, stream);
    let unsatisfiable: Act = |_, _, stream| respond(stream, "416 Range", "", 0, b"");
    let another_file: Act = |package, from, stream| {
        let range = format!("Content-Range: bytes {}-9/10\r\n", from.unwrap());
        respond(stream, "206 Partial", &range, package.len(), package);
    };
    let unnamed: Act = |package, _, stream| respond(stream, "206 Partial", "", 1, &package[..1]);
    for (acts, asked) in [
        (vec![whole], vec![Some(third)]),
        (vec![unsatisfiable, WELL], vec![Some(third), None]),
        (vec![another_file, WELL], vec![Some(third), None]),
        (vec![unnamed, WELL], vec![Some(third), None]),
    ] {
        fixture.fails(&[BREAKS]);
        assert_eq!(fixture.succeeds(&acts), asked);
    }
    // Longer than what is offered: not a part of it.
    fs::write(fixture.part(), vec![0; fixture.package.len() + 1]).unwrap();
    assert_eq!(fixture.succeeds(&[WELL]), [None]);
}

#[test]
fn what_is_not_the_announced_package_is_refused_and_the_next_attempt_starts_afresh() {
    let fixture = Fixture::new();
    let altered: Act = |package, _, stream| {
        let mut package = package.to_vec();
        package[3] ^= 1;
        respond(stream, "200 OK", "", package.len(), &package);
    };
    let longer: Act = |package, _, stream| {
        let package = [package, b"x"].concat();
        respond(stream, "200 OK", "", package.len(), &package);
    };
    for (act, word) in [(altered, "SHA-256"), (longer, "more than")] {
        let error = fixture.fails(&[act]);
        assert!(error.contains(word), "{error}");
        assert!(!fixture.part().exists());
        assert!(fixture.workdir.refused().join("agent.0").exists());
    }
    assert_eq!(*fixture.steps.borrow(), [Downloading, Verifying].repeat(2));
    // Zeros, where power was lost before they were written.
    fs::write(fixture.part(), vec![0; fixture.package.len() / 2]).unwrap();
    assert!(fixture.fails(&[WELL]).contains("SHA-256"));
    fs::remove_dir_all(fixture.workdir.refused()).unwrap();
    assert_eq!(fixture.succeeds(&[WELL]), [None]);
}

#[test]
fn a_short_answer_is_no_package() {
    let fixture = Fixture::new();
    let short: Act = |package, _, stream| respond(stream, "200 OK", "", 5, &package[..5]);
    let error = fixture.fails(&[short]);
    assert!(error.contains("after 5 of"), "{error}");
    let gone: Act = |_, _, stream| respond(stream, "404 Not Found", "", 0, b"");
    let error = fixture.fails(&[gone]);
    assert!(
        error.contains("404") && error.contains("agent 0.1.0 (build 1)"),
        "{error}"
    );
    assert_eq!(fixture.succeeds(&[WELL]), [Some(5)]);
}

#[test]
fn what_cannot_be_a_package_is_not_asked_for() {
    let refused = |alter: fn(&mut ComponentRelease), word: &str| {
        let mut fixture = Fixture::new();
        alter(&mut fixture.offered);
        let error = fixture.fails(&[]);
        assert!(error.contains(word), "{error}");
        assert_eq!(fs::read_dir(fixture.workdir.data()).unwrap().count(), 0);
    };
    refused(
        |offered| offered.package.size = LARGEST + 1,
        "no package may have",
    );
    refused(
        |offered| offered.package.sha256 = "../../x".to_owned(),
        "../../x",
    );
    refused(
        |offered| offered.package.sha256.make_ascii_uppercase(),
        "lower-case hex",
    );
}

#[test]
fn a_strangers_package_is_not_even_downloaded() {
    let mut fixture = Fixture::new();
    let [ours, other] = ["a", "b"].map(|name| keygen(&fixture.folder.path().join(name)).unwrap());
    let extra = fixture.workdir.config_journeyman().join("release-keys");
    fs::create_dir(&extra).unwrap();
    fs::write(extra.join("a.pub"), ours.public().to_string()).unwrap();
    let sha256 = fixture.offered.package.sha256.clone();
    fixture.offered.package.signatures = vec![other.sign(&sha256)];
    let error = fixture.fails(&[]);
    assert!(error.contains(other.public().id()), "{error}");
    assert_eq!(*fixture.steps.borrow(), [Downloading, Verifying]);
    fixture.offered.package.signatures.push(ours.sign(&sha256));
    fixture.succeeds(&[WELL]);
}

#[test]
fn nothing_is_asked_for_where_there_is_too_little_room() {
    let mut fixture = Fixture::new();
    fixture.offered.manifest.files[0].size = u64::MAX;
    let error = fixture.fails(&[]);
    assert!(error.contains("not enough room to download"), "{error}");
    // What is there already need not come again, and is not counted.
    fs::write(fixture.part(), &fixture.package).unwrap();
    fixture.succeeds(&[]);
}

#[test]
fn parts_of_other_packages_are_removed() {
    let fixture = Fixture::new();
    let data = fixture.workdir.data();
    let other = data.join(format!("download-{}.part", "0".repeat(64)));
    let unrelated = data.join("launcher-1");
    for path in [&other, &unrelated] {
        fs::write(path, "x").unwrap();
    }
    fixture.fails(&[BREAKS]);
    assert!(!other.exists());
    assert!(unrelated.exists() && fixture.part().exists());
}
