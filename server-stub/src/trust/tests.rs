//! Certificates on real TLS connections.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use journeyman_protocol::remoting::{AUTHORIZATION, X_AGENT_GUID};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    x509::{X509NameBuilder, X509Req},
};
use pretty_assertions::assert_eq;

use super::{authority::new_key, *};
use crate::{
    clock::SystemClock,
    configuration::{Configuration, Paths, Port},
    start::{Running, Start, start},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn request(key: &PKey<Private>, name: &str) -> String {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let mut builder = X509Req::builder().unwrap();
    builder.set_subject_name(&subject.build()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

/// Key and chain for a client, out of this authority.
fn identity(trust: &Trust, uuid: &str, now: Timestamp, life: Duration) -> reqwest::Identity {
    let key = new_key().unwrap();
    let issued = trust
        .issue(&request(&key, "whatever"), uuid, now, life)
        .unwrap();
    let key = key.private_key_to_pem_pkcs8().unwrap();
    reqwest::Identity::from_pkcs8_pem(issued.chain.as_bytes(), &key).unwrap()
}

async fn server(folder: &std::path::Path) -> Running {
    start(Start {
        configuration: Configuration::default(),
        paths: Paths::new(folder.to_path_buf(), None),
        http_port: Port::Exactly(0),
        https_port: Port::Exactly(0),
        auto_register_key: None,
        login: crate::users::Login::Off,
        clock: Arc::new(SystemClock),
    })
    .await
    .unwrap()
}

/// A client that trusts this server and nobody else.
fn client(running: &Running, identity: Option<reqwest::Identity>) -> reqwest::Client {
    let root = running.app.trust.trust_store().unwrap();
    let root = reqwest::Certificate::from_pem(root.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    }
    .build()
    .unwrap()
}

/// Status of the token request, which a stranger and the agent itself may make.
async fn token(
    running: &Running,
    client: &reqwest::Client,
    uuid: &str,
) -> Result<u16, reqwest::Error> {
    let url = format!(
        "{}/admin/agent/token?uuid={uuid}",
        running.app.endpoints.https_url
    );
    Ok(client.get(url).send().await?.status().as_u16())
}

#[tokio::test]
async fn a_client_certificate_is_optional_but_must_be_ours_and_valid() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path()).await;
    let trust = &running.app.trust;
    let now = Timestamp::now();
    assert_eq!(
        token(&running, &client(&running, None), "a").await.unwrap(),
        200
    );
    let ours = identity(trust, "a", now, DAY);
    assert_eq!(
        token(&running, &client(&running, Some(ours)), "a")
            .await
            .unwrap(),
        200
    );

    let ended = identity(
        trust,
        "a",
        now - jiff::SignedDuration::from_hours(10 * 24),
        DAY,
    );
    assert!(
        token(&running, &client(&running, Some(ended)), "a")
            .await
            .is_err()
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Trust::open(elsewhere.path(), &["localhost".to_owned()], now).unwrap();
    let foreign = identity(&foreign, "a", now, DAY);
    assert!(
        token(&running, &client(&running, Some(foreign)), "a")
            .await
            .is_err()
    );
    running.stop().await;
}

#[tokio::test]
async fn certificate_token_and_uuid_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let running = server(folder.path()).await;
    let app = &running.app;
    for uuid in ["a", "b"] {
        // Registered with the key, so that only the certificate can be at fault.
        let key = std::fs::read_to_string(app.paths.auto_register_key()).unwrap();
        let fields = [
            ("hostname", "h"),
            ("uuid", uuid),
            ("location", "/srv"),
            ("usablespace", "1"),
            ("operatingSystem", "Linux"),
            ("agentAutoRegisterKey", key.trim()),
            ("agentAutoRegisterResources", ""),
            ("agentAutoRegisterEnvironments", ""),
            ("agentAutoRegisterHostname", ""),
            ("elasticAgentId", ""),
            ("elasticPluginId", ""),
            ("token", &app.keys.token(uuid)),
        ];
        let url = format!("{}/admin/agent", app.endpoints.https_url);
        let registered = client(&running, None)
            .post(url)
            .form(&fields)
            .send()
            .await
            .unwrap();
        assert_eq!(registered.status(), 200);
    }
    let call = async |certificate: Option<&str>, uuid: &str, token_of: &str| {
        let identity = certificate.map(|name| identity(&app.trust, name, Timestamp::now(), DAY));
        let url = format!("{}/remoting/api/agent/get_cookie", app.endpoints.https_url);
        let body = format!(
            r#"{{"agentRuntimeInfo":{{"type":"AgentRuntimeInfo","identifier":{{"uuid":"{uuid}"}}}}}}"#
        );
        let answer = client(&running, identity)
            .post(url)
            .header(X_AGENT_GUID, uuid)
            .header(AUTHORIZATION, app.keys.token(token_of))
            .header("content-type", "application/json")
            .body(body);
        answer.send().await.unwrap().status().as_u16()
    };
    assert_eq!(call(Some("a"), "a", "a").await, 200);
    assert_eq!(call(None, "a", "a").await, 200);
    assert_eq!(call(Some("b"), "a", "a").await, 403);
    assert_eq!(call(Some("a"), "a", "b").await, 403);
    assert_eq!(call(Some("a"), "b", "b").await, 403);

    // An agent that lost its token and has its certificate gets the token again.
    let with = |name: &str| Some(identity(&app.trust, name, Timestamp::now(), DAY));
    assert_eq!(
        token(&running, &client(&running, None), "a").await.unwrap(),
        409
    );
    assert_eq!(
        token(&running, &client(&running, with("b")), "a")
            .await
            .unwrap(),
        409
    );
    assert_eq!(
        token(&running, &client(&running, with("a")), "a")
            .await
            .unwrap(),
        200
    );
    running.stop().await;
}

#[test]
fn only_the_key_is_taken_from_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let trust = Trust::open(folder.path(), &["localhost".to_owned()], now).unwrap();
    let key = new_key().unwrap();
    let issued = trust
        .issue(&request(&key, "someone else"), "uuid", now, 90 * DAY)
        .unwrap();
    let certificate = openssl::x509::X509::from_pem(issued.chain.as_bytes()).unwrap();
    assert_eq!(
        authority::first_common_name(certificate.subject_name()).unwrap(),
        "uuid"
    );
    assert!(certificate.public_key().unwrap().public_eq(&key));
    assert_eq!(
        issued.not_after.as_second() - now.as_second(),
        90 * 24 * 3600
    );

    let mut forged = request(&key, "uuid");
    let middle = forged.len() / 2;
    let letter = if forged.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    forged.replace_range(middle..=middle, letter);
    assert!(trust.issue(&forged, "uuid", now, DAY).is_err());
    assert!(matches!(
        trust.issue("no request", "uuid", now, DAY),
        Err(RequestError::Malformed(_))
    ));
}

#[test]
fn the_servers_certificate_is_renewed_and_the_authority_stays() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let now = Timestamp::now();
    let first = Trust::open(folder.path(), &names, now).unwrap();
    let serial = |trust: &Trust| trust.server.serial_number().to_bn().unwrap().to_vec();

    let again = Trust::open(folder.path(), &names, now).unwrap();
    assert_eq!(serial(&first), serial(&again));
    assert_eq!(first.fingerprint().unwrap(), again.fingerprint().unwrap());

    let later = now + jiff::SignedDuration::from_hours(350 * 24);
    let renewed = Trust::open(folder.path(), &names, later).unwrap();
    assert_ne!(serial(&first), serial(&renewed));
    assert_eq!(first.fingerprint().unwrap(), renewed.fingerprint().unwrap());

    let more = [names.to_vec(), vec!["ci.example.com".to_owned()]].concat();
    let renamed = Trust::open(folder.path(), &more, later).unwrap();
    assert_ne!(serial(&renewed), serial(&renamed));

    // An authority without its key is never replaced behind the operator's back.
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    assert!(matches!(
        Trust::open(folder.path(), &more, later),
        Err(TrustError::KeyMissing { .. })
    ));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(folder.path().join("server.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
