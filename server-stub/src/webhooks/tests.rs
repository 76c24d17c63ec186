use http::{HeaderMap, HeaderName, HeaderValue};
use pretty_assertions::assert_eq;
use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::scheduling::tests::Scene;

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let one = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    list.iter().map(one).collect()
}

/// What a host sends of a push: its name, a header with the event, and the body.
fn pushes() -> Vec<(Host, (&'static str, &'static str), Value)> {
    let github = json!({
        "ref": "refs/heads/main", "repository": { "full_name": "team/app", "url": "https://git.example/team/app",
        "clone_url": "https://git.example/team/app.git", "ssh_url": "git@git.example:team/app.git" },
    });
    let gitlab = json!({
        "object_kind": "push", "ref": "refs/heads/main", "project": { "id": 1,
        "git_http_url": "https://git.example/team/app.git", "git_ssh_url": "git@git.example:team/app.git" },
    });
    let cloud = json!({
        "repository": { "full_name": "team/app", "links": { "html": { "href": "https://git.example/team/app" } } },
        "push": { "changes": [ { "new": { "type": "branch", "name": "main" }, "old": null } ] },
    });
    let server = json!({
        "eventKey": "repo:refs_changed",
        "repository": { "slug": "app", "project": { "key": "TEAM" },
            "links": { "self": [ { "href": "https://git.example/projects/TEAM/repos/app/browse" } ] } },
        "changes": [ { "ref": { "id": "refs/heads/main", "displayId": "main", "type": "BRANCH" } } ],
    });
    vec![
        (Host::GitHub, ("x-github-event", "push"), github.clone()),
        (Host::Gitea, ("x-gitea-event", "push"), github),
        (Host::GitLab, ("x-gitlab-event", "Push Hook"), gitlab),
        (Host::Bitbucket, ("x-event-key", "repo:push"), cloud),
        (
            Host::Bitbucket,
            ("x-event-key", "repo:refs_changed"),
            server,
        ),
    ]
}

#[test]
fn every_host_tells_of_a_push_in_its_own_form() {
    for (host, header, body) in pushes() {
        let event = host.event(&headers(&[header]), &body).unwrap();
        let Event::Push {
            addresses,
            references,
        } = event
        else {
            panic!("{host:?}: {event:?}");
        };
        let places: Vec<String> = addresses.iter().map(|one| location::place(one)).collect();
        assert!(
            places.contains(&"git.example/team/app".to_owned()),
            "{host:?}: {places:?}"
        );
        assert_eq!(references, ["refs/heads/main"], "{host:?}");
    }
    let others = [
        (Host::GitHub, ("x-github-event", "ping"), Ok(Event::Ping)),
        (
            Host::Bitbucket,
            ("x-event-key", "diagnostics:ping"),
            Ok(Event::Ping),
        ),
        (
            Host::GitHub,
            ("x-github-event", "issues"),
            Ok(Event::Other("issues".to_owned())),
        ),
        (
            Host::GitLab,
            ("x-gitlab-event", "Note Hook"),
            Ok(Event::Other("Note Hook".to_owned())),
        ),
        (
            Host::GitHub,
            ("x-github-event", "push"),
            Err(event::Missing("ref")),
        ),
        (
            Host::Bitbucket,
            ("x-event-key", "repo:push"),
            Err(event::Missing("repository.links")),
        ),
    ];
    for (host, header, expected) in others {
        assert_eq!(host.event(&headers(&[header]), &json!({})), expected);
    }
    let wrong = json!({ "ref": 7, "repository": [], "push": { "changes": "x" }, "changes": [[]] });
    for (host, header, _) in pushes() {
        let _ = host.event(&headers(&[header]), &wrong);
    }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    crate::hex::hex(hmac::sign(&key, body).as_ref())
}

#[tokio::test]
async fn only_who_knows_the_secret_is_heard() {
    let scene = Scene::new().await;
    let secret = scene.app().webhook_secret.text().to_owned();
    let url = format!("{}/api/webhooks", scene.app().endpoints.http_url);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |path: &str, list: &[(&'static str, &str)], body: String| {
        let request = client.post(format!("{url}/{path}")).body(body);
        let answer = request.headers(headers(list)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (host, event, body) in pushes() {
        let (name, body) = (format!("{host:?}").to_lowercase(), body.to_string());
        let path = format!("{name}/notify");
        let signed = format!("sha256={}", sign(&secret, body.as_bytes()));
        let bare = sign(&secret, body.as_bytes());
        let proof = match host {
            Host::GitHub => ("x-hub-signature-256", signed.as_str()),
            Host::GitLab => ("x-gitlab-token", secret.as_str()),
            Host::Gitea => ("x-gitea-signature", bare.as_str()),
            Host::Bitbucket => ("x-hub-signature", signed.as_str()),
        };
        let (status, text) = ask(&path, &[event, proof], body.clone()).await;
        assert_eq!(status, 202, "{host:?}: {text}");
        let forged = [(proof.0, "sha256=00"), (proof.0, ""), ("x-other", &secret)];
        for forged in forged {
            let (status, text) = ask(&path, &[event, forged], body.clone()).await;
            assert!(
                status == 400 && text.contains("no webhook of ours"),
                "{host:?}: {text}"
            );
            assert!(!text.contains(&secret));
        }
    }
    // Bitbucket's cloud, with the secret in the address.
    let basic = |given: String| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("Basic {}", STANDARD.encode(given))
    };
    let ping = ("x-event-key", "diagnostics:ping");
    for given in [format!("{secret}:"), format!("journeyman:{secret}")] {
        let given = basic(given);
        let (status, _) = ask(
            "bitbucket/notify",
            &[ping, ("authorization", &given)],
            "{}".to_owned(),
        )
        .await;
        assert_eq!(status, 202);
    }
    let github = |body: &str| format!("sha256={}", sign(&secret, body.as_bytes()));
    let table = [
        ("[]", 400, "must be a JSON object"),
        ("{", 400, "not JSON"),
        ("{\"ref\":\"refs/heads/x\"}", 400, "no 'repository'"),
    ];
    for (body, expected, says) in table {
        let list = [
            ("x-github-event", "push"),
            ("x-hub-signature-256", &github(body)),
        ];
        let (status, text) = ask("github/notify", &list, body.to_owned()).await;
        assert!(status == expected && text.contains(says), "{status} {text}");
    }
    let (status, _) = ask("sourceforge/notify", &[], "{}".to_owned()).await;
    assert_eq!(status, 404);
    let large = "x".repeat(2 << 20);
    let (status, _) = ask("github/notify", &[], large).await;
    assert_eq!(status, 413);
    let body = pushes()[0].2.to_string();
    let list = [
        ("x-github-event", "push"),
        ("x-hub-signature-256", &github(&body)),
    ];
    let (status, _) = ask("github/config_repos/nobody", &list, body.clone()).await;
    assert_eq!(status, 404);
    let (status, text) = ask("github/config_repos/conf", &list, body).await;
    assert!(status == 202 && text.contains("not the branch"), "{text}");
}

#[tokio::test]
async fn a_webhook_has_repositories_looked_at_at_once() {
    let scene = Scene::new().await;
    let before = scene.look().await.checked_at;
    let secret = scene.app().webhook_secret.text().to_owned();
    let url = format!("file://{}/", scene.repo.path().display());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let push = async |reference: &str, address: &str| {
        let body = json!({ "ref": reference, "repository": { "clone_url": address } }).to_string();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", &body)
            .finish();
        let to = format!(
            "{}/api/webhooks/github/notify",
            scene.app().endpoints.http_url
        );
        let answer = client
            .post(to)
            .header("x-github-event", "push")
            .header("x-hub-signature-256", sign(&secret, form.as_bytes()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        answer.send().await.unwrap().text().await.unwrap()
    };
    let nothing = push("refs/heads/other", &url).await;
    assert!(nothing.contains("Nothing was pushed"), "{nothing}");
    let mut told = scene.app().state_changed.subscribe();
    crate::scheduling::tests::commit(scene.repo.path(), "new", "1");
    let looked = push("refs/heads/main", &url).await;
    assert!(looked.contains("scheduled for an update"), "{looked}");
    let fingerprint = crate::scheduling::trigger::options_of(scene.app(), "web")
        .await
        .unwrap()
        .materials[0]
        .fingerprint
        .clone();
    loop {
        let mut connection = scene.app().database.readers().acquire().await.unwrap();
        let head = materials::head(&mut connection, &fingerprint)
            .await
            .unwrap();
        let repo = repositories::find(&mut connection, "conf").await.unwrap();
        drop(connection);
        if head.is_some() && repo.unwrap().checked_at > before {
            break;
        }
        told.raised().await;
    }
}
