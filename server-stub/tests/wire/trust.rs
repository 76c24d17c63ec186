//! HTTPS, and client certificates of the server's own authority.

use std::fs;

use journeyman_protocol::registration::Certificate;
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509Name, X509NameBuilder, X509ReqBuilder},
};
use pretty_assertions::assert_eq;
use reqwest::{Client, Identity};
use serde_json::json;

use crate::{
    agent::Agent,
    server::{Answer, KEY, PATIENCE, Server, answer},
};

fn key() -> PKey<Private> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap()
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)
        .unwrap();
    name.build()
}

fn request(key: &PKey<Private>, common_name: &str) -> String {
    let mut request = X509ReqBuilder::new().unwrap();
    request.set_subject_name(&name(common_name)).unwrap();
    request.set_pubkey(key).unwrap();
    request.sign(key, MessageDigest::sha256()).unwrap();
    String::from_utf8(request.build().to_pem().unwrap()).unwrap()
}

/// A certificate that only its own key vouches for.
fn foreign(key: &PKey<Private>, common_name: &str) -> String {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name(common_name)).unwrap();
    builder.set_issuer_name(&name(common_name)).unwrap();
    builder.set_pubkey(key).unwrap();
    let (start, end) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(1));
    builder.set_not_before(&start.unwrap()).unwrap();
    builder.set_not_after(&end.unwrap()).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

/// A client that trusts the server's authority only, and shows a certificate if it has one.
fn client(server: &Server, shown: Option<(&str, &PKey<Private>)>) -> Client {
    let authority = fs::read(server.data().join("trust/ca.crt")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let mut builder = Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .tls_certs_only([authority]);
    if let Some((certificate, key)) = shown {
        let key = key.private_key_to_pem_pkcs8().unwrap();
        let identity = Identity::from_pkcs8_pem(certificate.as_bytes(), &key).unwrap();
        builder = builder.identity(identity);
    }
    builder.build().unwrap()
}

/// Registers with a request for a certificate.
async fn certificate(agent: &Agent<'_>, request: String) -> Certificate {
    let mut form = agent.form(KEY);
    form.push(("certificateRequest", request));
    let answer = agent.register(&form).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.text).unwrap()
}

async fn ping(agent: &Agent<'_>, client: &Client) -> Answer {
    let url = format!("{}/remoting/api/agent/ping", agent.server.https_url);
    let request = agent.signed(client.post(url));
    let request = request.header("Content-Type", "application/json");
    answer(request.body(agent.body("ping", json!({})))).await
}

#[tokio::test]
async fn the_servers_authority_vouches_for_it_and_nobody_else_does() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    // A Java agent shows no certificate.
    assert_eq!(ping(&agent, &client(&server, None)).await.status, 200);
    let stranger = crate::server::client();
    let url = format!("{}/remoting/api/agent/ping", server.https_url);
    assert!(stranger.post(url).send().await.is_err());
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_agent_only() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let other = Agent::registered(&server).await;
    let key = key();
    let issued = certificate(&agent, request(&key, &agent.uuid)).await;
    assert!(
        issued
            .secure_url
            .ends_with(&server.https_url[server.https_url.rfind(':').unwrap()..])
    );
    assert!(issued.trust_store.contains("BEGIN CERTIFICATE"));
    let known = client(&server, Some((&issued.certificate, &key)));
    let pong = ping(&agent, &known).await;
    assert_eq!((pong.status, pong.text.as_str()), (200, "\"NONE\""));

    let refused = ping(&other, &known).await;
    assert_eq!((refused.status, refused.text.as_str()), (403, ""));
    let register = |of: &Agent<'_>| {
        let form = of.form(KEY);
        answer(
            known
                .post(format!("{}/admin/agent", server.https_url))
                .form(&form),
        )
    };
    assert_eq!(register(&other).await.status, 403);
    assert_eq!(register(&agent).await.status, 200);

    // Whoever shows the certificate may have the lost token again, and no other's.
    let token = |of: &Agent<'_>| {
        let url = format!("{}/admin/agent/token?uuid={}", server.https_url, of.uuid);
        answer(known.get(url))
    };
    let again = token(&agent).await;
    assert_eq!((again.status, &again.text), (200, &agent.token));
    assert_eq!(token(&other).await.status, 409);
}

#[tokio::test]
async fn the_name_in_a_request_counts_for_nothing() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let other = Agent::registered(&server).await;
    let key = key();
    let issued = certificate(&agent, request(&key, &other.uuid)).await;
    let leaf = X509::from_pem(issued.certificate.as_bytes()).unwrap();
    let names: Vec<String> = leaf
        .subject_name()
        .entries_by_nid(Nid::COMMONNAME)
        .map(|entry| String::from_utf8(entry.data().as_slice().to_vec()).unwrap())
        .collect();
    assert_eq!(names, std::slice::from_ref(&agent.uuid));
    let known = client(&server, Some((&issued.certificate, &key)));
    assert_eq!(ping(&agent, &known).await.status, 200);
    assert_eq!(ping(&other, &known).await.status, 403);

    let mut form = agent.form(KEY);
    form.push(("certificateRequest", "no request".to_owned()));
    assert_eq!(agent.register(&form).await.status, 422);
    // One who only waits for approval gets none.
    let pending = Agent::with_token(&server).await;
    let mut form = pending.form("");
    form.push(("certificateRequest", request(&key, &pending.uuid)));
    let waiting = pending.register(&form).await;
    assert_eq!((waiting.status, waiting.text.as_str()), (202, ""));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let server = Server::start().await;
    let agent = Agent::registered(&server).await;
    let key = key();
    let own = foreign(&key, &agent.uuid);
    let intruder = client(&server, Some((&own, &key)));
    let url = format!("{}/remoting/api/agent/ping", server.https_url);
    let request = agent.signed(intruder.post(url));
    let request = request.header("Content-Type", "application/json");
    let sent = request.body(agent.body("ping", json!({}))).send().await;
    assert!(sent.is_err(), "{sent:?}");
    assert_eq!(agent.ping("Idle").await, "\"NONE\"");
}
