//! Pages that jobs have published, as browsers with a session read them.

use pretty_assertions::assert_eq;

use super::*;

#[tokio::test]
async fn a_published_page_finds_what_belongs_to_it_and_nothing_else() {
    let people = People::new().await;
    for _ in 0..2 {
        people.scene.trigger().await;
        let cancel = "/api/stages/web/build/cancel";
        assert_eq!(people.status(As::User("admin"), "POST", cancel).await, 200);
    }
    for (file, text) in [
        ("web/1/build/1/unit/out/index.html", "<p>first"),
        ("web/1/build/1/unit/out/a b.css", "p {}"),
        ("web/2/build/1/unit/out/a b.css", "q {}"),
    ] {
        let request = people.request(&As::User("admin"), "PUT", &format!("/files/{file}"));
        let sent = request.header("X-GoCD-Confirm", "true").body(text).send();
        assert_eq!(sent.await.unwrap().status(), 200, "{file}");
    }
    let page = "/files/web/1/build/1/unit/out/index.html";
    // Programs are given the file.
    let plain = people.request(&As::User("viewer"), "GET", page).send();
    assert_eq!(plain.await.unwrap().text().await.unwrap(), "<p>first");

    let session = people.session("viewer").await;
    let led = people.request(&As::Session(&session), "GET", page).send();
    let led = led.await.unwrap();
    assert_eq!(led.status(), 303);
    let address = led.headers()["location"].to_str().unwrap().to_owned();
    let below = address.strip_prefix("/go").unwrap().to_owned();
    let read = async |path: &str| {
        let answer = people.request(&As::Nobody, "GET", path).send().await;
        let answer = answer.unwrap();
        let policy = answer.headers()["content-security-policy"].clone();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("sandbox ") && !policy.contains("same-origin"));
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    };
    assert_eq!(read(&below).await, (200, "<p>first".to_owned()));
    let style = below.replace("index.html", "a%20b.css");
    assert_eq!(read(&style).await, (200, "p {}".to_owned()));
    let of = |from: &str, to: &str| below.replace(from, to);
    for (path, status) in [
        (of("web/1/build/1/unit", "web/2/build/1/unit"), 403),
        (of("web/1/build/1/unit", "vault/1/build/1/unit"), 403),
        (of("web/1/build/1/unit", "web/latest/build/1/unit"), 403),
        (of("out/index.html", "none.css"), 404),
        (of("out/index.html", "out.json"), 404),
        (of("out/index.html", ""), 404),
        (of("out/index.html", "cruise-output/console.log"), 404),
        (of("out/index.html", "%2e%2e/x"), 403),
        (
            "/reports/x/web/1/build/1/unit/out/index.html".to_owned(),
            403,
        ),
        ("/reports/x/web".to_owned(), 404),
    ] {
        assert_eq!(read(&path).await.0, status, "{path}");
    }
    let write = people.status(As::Nobody, "PUT", &style).await;
    assert_eq!(write, 405);
    // Nobody gets an address for what they may not see.
    let hidden = page.replace("web", "vault");
    assert_eq!(
        people.status(As::Session(&session), "GET", &hidden).await,
        403
    );

    people.clock.advance(Duration::from_secs(4 * 60 * 60));
    assert_eq!(read(&below).await.0, 403);
}
