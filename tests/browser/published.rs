//! What jobs publish: a report of several files is shown whole, and may be hostile.

use journeyman_tests::{api::Job, browser::Browser, scene::Scene};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Shop;

/// A page with a style, an image, a script and a further page, which tries in every way to act for
/// who looks at it, and tells whoever shows it how it went.
const HOSTILE: &str = r#"<!DOCTYPE html><link rel=stylesheet href="parts/report.css">
<h1>Report</h1><img id=picture src="parts/picture.svg"><p><a id=further href="parts/second.html">more</a>
<form method=post action=/go/pipelines/shop/trigger><input name=x></form>
<script src="parts/report.js"></script>"#;

const SCRIPT: &str = r#"
const told = { page: location.pathname.split('/').pop() };
const attempt = (name, act) => {
  try { told[name] = String(act()) } catch (error) { told[name] = error.name }
};
const reach = async (name, path, options) => {
  try { told[name] = (await fetch(path, { credentials: 'include', ...options })).status }
  catch (error) { told[name] = error.name }
};
const go = async () => {
  told.style = getComputedStyle(document.querySelector('h1')).color;
  told.picture = document.querySelector('img')?.naturalWidth;
  attempt('cookie', () => document.cookie);
  attempt('storage', () => localStorage.length);
  const trigger = '/go/api/pipelines/shop/schedule';
  await reach('reads', '/go/api/current_user');
  await reach('pages', '/go/pipelines');
  await reach('posts', trigger, { method: 'POST', headers: { 'X-GoCD-Confirm': 'true' } });
  await reach('json', trigger, { method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json' } });
  await reach('blind', trigger, { method: 'POST', mode: 'no-cors' });
  await reach('form', '/go/pipelines/shop/trigger', { method: 'POST', mode: 'no-cors', body: new URLSearchParams('x=1') });
  attempt('submit', () => document.forms[0]?.submit());
  if (parent !== window) {
    attempt('parent', () => parent.document.title);
    attempt('top', () => { top.location = '/go/agents'; });
  }
  window.told = told;
  parent.postMessage(told, '*');
  if (parent !== window && told.page === 'index.html') document.querySelector('#further').click();
};
document.readyState === 'complete' ? go() : addEventListener('load', go);
"#;

/// What the script tells: the whole report is there, and nothing of ours.
fn kept_out(page: &str, picture: u32, framed: bool) -> Value {
    let mut told = json!({
        "page": page,
        "style": "rgb(1, 2, 3)",
        "cookie": "SecurityError",
        "storage": "SecurityError",
        "reads": "TypeError",
        "pages": "TypeError",
        "posts": "TypeError",
        "json": "TypeError",
        // It is sent, without the session: see the runs.
        "blind": 0,
        "form": 0,
        // Nothing is sent: forms are forbidden.
        "submit": "undefined",
    });
    if picture > 0 {
        told["picture"] = json!(picture);
    }
    if framed {
        told["parent"] = json!("SecurityError");
        told["top"] = json!("SecurityError");
    }
    told
}

#[test]
fn a_report_of_several_files_is_whole_and_kept_apart() {
    let scene = Scene::new("published");
    let shop = Shop::open(&scene);
    let api = shop.server.api();
    let job = Job::in_stage("shop", api.trigger("shop"), "build", "unit");
    // From now on a trigger would be let through.
    api.cancel(&job);
    for (file, text) in [
        ("index.html", HOSTILE),
        ("parts/report.css", "h1 { color: rgb(1, 2, 3) }"),
        ("parts/report.js", SCRIPT),
        (
            "parts/picture.svg",
            "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='30'><circle r='9'/></svg>",
        ),
        (
            "parts/second.html",
            "<link rel=stylesheet href=report.css><h1>Second</h1><script src=report.js></script>",
        ),
    ] {
        api.publish(&job, &format!("out/site/{file}"), text);
    }
    let browser = Browser::start(&scene);
    let page = browser.page();
    shop.log_in(&page);
    page.before_scripts(
        "if (window === top) { window.heard = []; addEventListener('message', event => heard.push(event.data)) }",
    );

    // In its tab.
    let tab = shop.url(&format!("/tab/build/detail/{}?tab=custom-1", job.locator));
    page.open(&tab);
    page.wait(
        "both pages have told how it went",
        "window.heard?.length === 2",
    );
    assert_eq!(
        page.eval("heard"),
        json!([
            kept_out("index.html", 40, true),
            kept_out("second.html", 0, true)
        ])
    );
    assert_eq!(page.eval("location.href"), tab);
    page.picture("report");

    // By itself.
    page.open(&shop.url(&format!("/files/{}/out/site/index.html", job.locator)));
    page.wait("the page has told how it went", "window.told");
    assert_eq!(page.eval("told"), kept_out("index.html", 40, false));
    page.follow("#further");
    page.wait("the page has told how it went", "window.told");
    assert_eq!(page.eval("told"), kept_out("second.html", 0, false));

    assert_eq!(api.last_run("shop"), 1, "a report has triggered a run");
    // The session is as good as before.
    page.open(&shop.url("/pipelines"));
    page.wait("the dashboard", "document.querySelector('.bar')");
}
