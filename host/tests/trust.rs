//! Connections over real TLS: what is trusted, what is refused, and what is said about it.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects with unwrap"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    thread,
};

use jiff::{SignedDuration, Timestamp};
use journeyman_host::{
    arguments::{ConnectionSettings, IdentityFiles, VerificationMode},
    certificate,
    connection::{Connection, ConnectionError},
    trust::{Fingerprint, PinError},
    workdir::WorkDir,
};
use journeyman_protocol::registration::Certificate;
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, PKeyRef, Private, Public},
    ssl::{SslAcceptor, SslMethod, SslVerifyMode},
    symm::Cipher,
    x509::{
        X509, X509NameBuilder, X509Req,
        extension::{BasicConstraints, SubjectAlternativeName},
        store::X509StoreBuilder,
    },
};
use pretty_assertions::assert_eq;
use tempfile::TempDir;
use url::Url;

const DAY: i64 = 86_400;

#[tokio::test]
async fn an_unknown_certificate_is_refused_with_its_fingerprint_and_what_to_do() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("IP:127.0.0.1");
    let connection = place.connect(&place.settings(server)).await.unwrap();
    let error = get(&connection).await.unwrap_err();
    let text = connection.explain(&error).await;
    let fingerprint = Fingerprint::of(&authority.certificate).unwrap().to_string();
    for expected in [&fingerprint, "--server-fingerprint", "--root-cert-file"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn a_root_file_is_trusted_in_both_forms_and_nothing_else() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("IP:127.0.0.1");
    let pem = authority.certificate.to_pem().unwrap();
    let der = authority.certificate.to_der().unwrap();
    for content in [pem, der] {
        let settings = ConnectionSettings {
            root_cert_file: Some(place.file("root", &content)),
            ..place.settings(server)
        };
        let connection = place.connect(&settings).await.unwrap();
        assert_eq!(get(&connection).await.unwrap(), "nobody");
    }
    let settings = ConnectionSettings {
        root_cert_file: Some(place.file("root", &Authority::new().certificate.to_pem().unwrap())),
        ..place.settings(server)
    };
    let connection = place.connect(&settings).await.unwrap();
    get(&connection).await.unwrap_err();
}

#[tokio::test]
async fn a_pinned_root_is_trusted_and_remembered() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("IP:127.0.0.1");
    let settings = ConnectionSettings {
        fingerprint: Some(Fingerprint::of(&authority.certificate).unwrap()),
        ..place.settings(server)
    };
    let connection = place.connect(&settings).await.unwrap();
    assert_eq!(get(&connection).await.unwrap(), "nobody");
    // The next start does not need the server for it.
    let gone = ConnectionSettings {
        server_url: Url::parse("https://127.0.0.1:1/go").unwrap(),
        ..settings
    };
    place.connect(&gone).await.unwrap();
}

#[tokio::test]
async fn a_pin_that_does_not_fit_is_refused_and_a_leaf_is_no_root() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("IP:127.0.0.1");
    let root = Fingerprint::of(&authority.certificate).unwrap();
    let pinned = |fingerprint| ConnectionSettings {
        fingerprint: Some(fingerprint),
        ..place.settings(server)
    };
    let other = Fingerprint::of(&Authority::new().certificate).unwrap();
    let error = place.connect(&pinned(other)).await.unwrap_err();
    let ConnectionError::Pin(PinError::Other { seen, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(seen.last(), Some(&root));
    assert!(error.to_string().contains(&other.to_string()), "{error}");

    let leaf = *seen.first().unwrap();
    let error = place.connect(&pinned(leaf)).await.unwrap_err();
    assert!(error.to_string().contains(&root.to_string()), "{error}");
    assert!(!error.is_unreachable());

    let gone = ConnectionSettings {
        server_url: Url::parse("https://127.0.0.1:1/go").unwrap(),
        ..pinned(other)
    };
    assert!(place.connect(&gone).await.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn verification_can_leave_out_the_host_or_everything() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("DNS:ci.example.com");
    let root = place.file("root", &authority.certificate.to_pem().unwrap());
    for (verification, root_cert_file, trusted) in [
        (VerificationMode::Full, Some(root.clone()), false),
        (VerificationMode::NoVerifyHost, Some(root), true),
        (VerificationMode::NoVerifyHost, None, false),
        (VerificationMode::None, None, true),
    ] {
        let settings = ConnectionSettings {
            verification,
            root_cert_file,
            ..place.settings(server)
        };
        let connection = place.connect(&settings).await.unwrap();
        assert_eq!(get(&connection).await.is_ok(), trusted, "{settings:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_may_have_an_encrypted_key() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("IP:127.0.0.1");
    let key = new_key();
    let client = authority.sign("build machine", &public(&key), None, (-DAY, DAY));
    let locked = key
        .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open sesame")
        .unwrap();
    let identity = |passphrase: Option<&str>| {
        Some(IdentityFiles {
            certificate: place.file("client.crt", &client.to_pem().unwrap()),
            key: place.file("client.key", &locked),
            passphrase: passphrase.map(|text| place.file("passphrase", text.as_bytes())),
        })
    };
    let settings = ConnectionSettings {
        verification: VerificationMode::None,
        identity: identity(Some(" open sesame\n")),
        ..place.settings(server)
    };
    let connection = place.connect(&settings).await.unwrap();
    assert_eq!(get(&connection).await.unwrap(), "build machine");
    for wrong in [Some("hunter2"), None] {
        let settings = ConnectionSettings {
            identity: identity(wrong),
            ..settings.clone()
        };
        let error = place.connect(&settings).await.unwrap_err().to_string();
        assert!(error.contains("client.key"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_from_the_server_makes_the_connection_secure() {
    let place = Place::new();
    let authority = Authority::new();
    let server = authority.server("IP:127.0.0.1");
    let settings = ConnectionSettings {
        server_url: Url::parse("http://127.0.0.1:1/go").unwrap(),
        ..place.settings(server)
    };
    let open = || Connection::open(&place.workdir, &settings);
    assert!(!open().await.unwrap().is_secure());

    let now = Timestamp::now();
    let answer = authority.answer(&place, server, (-10 * DAY, 20 * DAY));
    certificate::save(&place.workdir, &answer, settings.base_url()).unwrap();
    let connection = open().await.unwrap();
    assert_eq!(connection.base_url(), answer.secure_url);
    assert_eq!(connection.configured_url(), settings.base_url());
    assert_eq!(get(&connection).await.unwrap(), "some-guid");
    // 10 of 30 days are over; two thirds are at 20.
    let left = connection.renew_at().unwrap().duration_since(now);
    assert!((left - SignedDuration::from_hours(240)).abs() < SignedDuration::from_mins(5));

    // A renewal keeps the key.
    let key = fs::read(place.workdir.agent_key()).unwrap();
    let renewed = authority.answer(&place, server, (0, 30 * DAY));
    certificate::save(&place.workdir, &renewed, settings.base_url()).unwrap();
    assert_eq!(fs::read(place.workdir.agent_key()).unwrap(), key);
    assert_eq!(get(&open().await.unwrap()).await.unwrap(), "some-guid");

    let workdir = &place.workdir;
    for path in [
        workdir.agent_key(),
        workdir.agent_certificate(),
        workdir.trust_store(),
        workdir.secure_server(),
    ] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    certificate::discard(workdir).unwrap();
    assert!(!open().await.unwrap().is_secure());
}

#[test]
fn a_certificate_counts_only_for_its_server_and_its_time() {
    let place = Place::new();
    let authority = Authority::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let url = "http://127.0.0.1:8153/go";
    let answer = authority.answer(&place, address, (-DAY, DAY));
    certificate::save(&place.workdir, &answer, url).unwrap();
    let now = Timestamp::now();
    let load = |url: &str, at| certificate::load(&place.workdir, url, at).unwrap();
    assert!(load(url, now).is_some());
    assert!(load("http://127.0.0.1:9999/go", now).is_none());
    assert!(load(url, now + SignedDuration::from_hours(25)).is_none());
}

#[test]
fn what_does_not_belong_to_our_key_is_not_kept() {
    let place = Place::new();
    let authority = Authority::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let good = authority.answer(&place, address, (-DAY, DAY));
    let foreign = authority.sign("x", &public(&new_key()), None, (-DAY, DAY));
    let altered: [fn(&mut Certificate); 3] = [
        |answer| answer.certificate = "nonsense".to_owned(),
        |answer| answer.trust_store = String::new(),
        |answer| answer.secure_url = "http://127.0.0.1/go".to_owned(),
    ];
    let mut bad: Vec<Certificate> = altered
        .iter()
        .map(|alter| {
            let mut answer = good.clone();
            alter(&mut answer);
            answer
        })
        .collect();
    bad.push(Certificate {
        certificate: String::from_utf8(foreign.to_pem().unwrap()).unwrap(),
        ..good
    });
    for answer in bad {
        certificate::save(&place.workdir, &answer, "http://127.0.0.1/go").unwrap_err();
        assert!(!place.workdir.secure_server().exists());
        assert!(!place.workdir.agent_certificate().exists());
    }
}

#[test]
fn a_corrupt_file_is_set_aside_and_the_configured_url_used() {
    let authority = Authority::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let url = "http://127.0.0.1:8153/go";
    let files: [fn(&WorkDir) -> std::path::PathBuf; 4] = [
        WorkDir::agent_key,
        WorkDir::agent_certificate,
        WorkDir::trust_store,
        WorkDir::secure_server,
    ];
    for file in files {
        for corrupt in [&b""[..], b"\xff\x00", b"-----BEGIN CERTIFICATE-----\n"] {
            let place = Place::new();
            let answer = authority.answer(&place, address, (-DAY, DAY));
            certificate::save(&place.workdir, &answer, url).unwrap();
            let path = file(&place.workdir);
            fs::write(&path, corrupt).unwrap();
            let loaded = certificate::load(&place.workdir, url, Timestamp::now()).unwrap();
            assert!(loaded.is_none(), "{}", path.display());
            assert!(!path.exists(), "{}", path.display());
            // The next registration finds everything it needs.
            let answer = authority.answer(&place, address, (-DAY, DAY));
            certificate::save(&place.workdir, &answer, url).unwrap();
            let loaded = certificate::load(&place.workdir, url, Timestamp::now()).unwrap();
            assert!(loaded.is_some(), "{}", path.display());
        }
    }
}

async fn get(connection: &Connection) -> Result<String, reqwest::Error> {
    let answer = connection.client().get(connection.url("/x")).send().await?;
    answer.text().await
}

/// A working directory and files beside it.
struct Place {
    folder: TempDir,
    workdir: WorkDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path().join("agent"));
        workdir.prepare().unwrap();
        Self { folder, workdir }
    }

    fn file(&self, name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn settings(&self, server: SocketAddr) -> ConnectionSettings {
        ConnectionSettings {
            server_url: Url::parse(&format!("https://{server}/go")).unwrap(),
            verification: VerificationMode::Full,
            root_cert_file: None,
            identity: None,
            fingerprint: None,
            allow_plain_http: false,
        }
    }

    async fn connect(&self, settings: &ConnectionSettings) -> Result<Connection, ConnectionError> {
        Connection::configured(&self.workdir, settings).await
    }
}

/// A CA as our server has one.
struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    fn new() -> Self {
        let key = new_key();
        let certificate = issue("test CA", &public(&key), None, (-DAY, DAY), None, &key);
        Self { key, certificate }
    }

    fn sign(
        &self,
        name: &str,
        key: &PKeyRef<Public>,
        alternative: Option<&str>,
        life: (i64, i64),
    ) -> X509 {
        let issuer = Some(&self.certificate);
        issue(name, key, issuer, life, alternative, &self.key)
    }

    /// What our server answers to the request of this place's agent.
    fn answer(&self, place: &Place, server: SocketAddr, life: (i64, i64)) -> Certificate {
        let request = certificate::request(&place.workdir, "some-guid").unwrap();
        let request = X509Req::from_pem(request.as_bytes()).unwrap();
        let key = request.public_key().unwrap();
        assert!(request.verify(&key).unwrap());
        let mut names = request.subject_name().entries_by_nid(Nid::COMMONNAME);
        let name = names.next().unwrap().data().to_string().unwrap();
        let certificate = self.sign(&name, &key, None, life);
        let text = |certificate: &X509| String::from_utf8(certificate.to_pem().unwrap()).unwrap();
        Certificate {
            certificate: text(&certificate),
            trust_store: text(&self.certificate),
            secure_url: format!("https://{server}/go"),
            not_after: Timestamp::now() + SignedDuration::from_secs(life.1),
        }
    }

    /// A server that answers each request with the name in the client's certificate.
    fn server(&self, alternative: &str) -> SocketAddr {
        let key = new_key();
        let own = self.sign("server", &public(&key), Some(alternative), (-DAY, DAY));
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&own).unwrap();
        acceptor
            .add_extra_chain_cert(self.certificate.clone())
            .unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(self.certificate.clone()).unwrap();
        acceptor.set_verify_cert_store(store.build()).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER);
        acceptor.set_session_id_context(b"test").unwrap();
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = acceptor.accept(stream.unwrap()) else {
                    continue;
                };
                let mut request = Vec::new();
                let mut buffer = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                        _ => break,
                    }
                }
                let name = stream.ssl().peer_certificate().map_or_else(
                    || "nobody".to_owned(),
                    |certificate| {
                        let mut names = certificate.subject_name().entries();
                        names.next().unwrap().data().to_string().unwrap()
                    },
                );
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
                    name.len()
                );
                let _ = stream.shutdown();
            }
        });
        address
    }
}

fn new_key() -> PKey<Private> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap()
}

fn public(key: &PKey<Private>) -> PKey<Public> {
    PKey::public_key_from_pem(&key.public_key_to_pem().unwrap()).unwrap()
}

/// A certificate that lives from and to so many seconds from now.
fn issue(
    name: &str,
    key: &PKeyRef<Public>,
    issuer: Option<&X509>,
    life: (i64, i64),
    alternative: Option<&str>,
    signer: &PKey<Private>,
) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let time = |seconds| Asn1Time::from_unix(Timestamp::now().as_second() + seconds).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(Timestamp::now().subsec_nanosecond().unsigned_abs()).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.subject_name()))
        .unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&time(life.0)).unwrap();
    builder.set_not_after(&time(life.1)).unwrap();
    if issuer.is_none() {
        let authority = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(authority).unwrap();
    }
    if let Some((kind, value)) = alternative.and_then(|text| text.split_once(':')) {
        let mut names = SubjectAlternativeName::new();
        match kind {
            "IP" => names.ip(value),
            _ => names.dns(value),
        };
        let context = builder.x509v3_context(issuer.map(|issuer| &**issuer), None);
        let names = names.build(&context).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}
