//! The pages in a real browser: what people do with them, with and without JavaScript.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod published;

use std::{fs, time::Instant};

use journeyman_tests::{
    api::Job,
    browser::{Browser, Page, output},
    chain::Chain,
    patience::wait_until,
    provider::Provider,
    repo::Repo,
    scene::Scene,
    server::{PASSWORD, Server},
};
use pretty_assertions::assert_eq;

/// A pipeline whose first job goes on until there is a file, and has a test that fails.
const SHOP: &str = "\
format_version: 10
pipelines:
  shop:
    group: web
    label_template: \"2.4.${COUNT}\"
    materials:
      source: { git: \"{url}\" }
    stages:
      - build:
          approval: manual
          jobs:
            unit:
              artifacts:
                - test: { source: reports }
                - build: { source: site, destination: out }
              tabs:
                coverage: out/site/index.html
              tasks:
                - exec: { command: sh, arguments: [compile.sh] }
                - exec: { command: sh, arguments: [test.sh, \"{gate}\"] }
      - release:
          approval: manual
          jobs:
            publish: { tasks: [ { exec: { command: echo, arguments: [published] } } ] }
";

const COMPILE: &str = "\
mkdir -p site
cat page.html > site/index.html
for part in money cart checkout mail; do printf '   \\033[1;32mCompiling\\033[0m %s v2.4.0\\n' $part; done
printf '\\033[33mwarning\\033[0m: unused variable: \\033[1m`total`\\033[0m <script>document.title = 1</script>\\n'
";

const TEST: &str = "\
tick=0
until [ -e \"$1\" ]; do tick=$((tick + 1)); printf 'test cart::adds_%s ... \\033[32mok\\033[0m\\n' $tick; sleep 0.1; done
mkdir -p reports
cat > reports/TEST-cart.xml <<'X'
<testsuite name=\"cart\"><testcase name=\"adds_items\" time=\"0.004\"/><testcase name=\"empties\" time=\"0.001\"/>
<testcase name=\"totals_with_tax\" time=\"0.012\"><failure message=\"expected 11.90, got 11.00\">at cart.rs:42
at main.rs:7 &lt;b&gt;</failure></testcase><testcase name=\"ships\"><skipped message=\"no network\"/></testcase></testsuite>
X
printf 'test cart::totals_with_tax ... \\033[1;31mFAILED\\033[0m\\n'
exit 1
";

struct Shop<'a> {
    server: Server<'a>,
    gate: String,
    _repo: Repo,
}

impl<'a> Shop<'a> {
    fn open(scene: &'a Scene) -> Self {
        let server = Server::start(scene);
        let gate = scene.path().join("gate").display().to_string();
        let repo = Repo::new(scene, "shop.repo", &SHOP.replace("{gate}", &gate));
        repo.commit("compile.sh", COMPILE);
        repo.commit("test.sh", TEST);
        repo.commit("page.html", "<h1>Coverage</h1>");
        server.add_repo(&repo);
        server.api().wait_for_pipeline("shop");
        Self {
            server,
            gate,
            _repo: repo,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.http_url)
    }

    fn log_in(&self, page: &Page) {
        page.open(&self.url("/agents"));
        page.fill("[name=j_username]", "admin");
        page.fill("[name=j_password]", PASSWORD);
        page.follow("main button");
    }
}

fn job_of(page: &Page) -> Job {
    let path = page.eval("location.pathname");
    let path = path.as_str().unwrap();
    let locator = path.strip_prefix("/go/tab/build/detail/").unwrap();
    Job {
        locator: locator.to_owned(),
    }
}

#[test]
fn people_work_in_a_browser() {
    let scene = Scene::new("browser");
    let shop = Shop::open(&scene);
    let api = shop.server.api();
    let chain = Chain::install(&scene, "agent", &shop.server.http_url).started();
    let browser = Browser::start(&scene);
    let mut page = browser.page();

    // The way in, and an agent that nobody has let in yet.
    shop.log_in(&page);
    let uuid = chain.uuid();
    page.wait_for_text("Pending");
    page.press_and_follow(&format!("Enable {}", page.text("td.agent a")));
    page.wait(
        "the agent is idle",
        "document.querySelector('.state.good')?.innerText === 'Idle'",
    );
    page.wait_for_text(&uuid);

    // A run, and its console as it grows.
    page.press_and_follow("Pipelines");
    page.press_and_follow("Trigger shop");
    page.follow("a.bar");
    page.press_and_follow("unit");
    let first = job_of(&page);
    page.wait_for_text("test cart::adds_3 ... ok");
    page.wait(
        "colours",
        "getComputedStyle(document.querySelector('.console .c2')).color === 'rgb(127, 207, 154)'",
    );
    let shown = || {
        page.eval("document.querySelectorAll('.console .line').length")
            .as_u64()
            .unwrap()
    };
    let before = shown();
    page.wait(
        "the console grows",
        &format!(
            "document.querySelectorAll('.console .line').length > {}",
            before + 5
        ),
    );
    page.wait_for_text("<script>document.title = 1</script>");
    page.wait(
        "the state is shown",
        "document.querySelector('h1 + .state').innerText === 'Building'",
    );
    assert_eq!(
        page.eval("document.querySelectorAll('.fold .mark.good').length"),
        1
    );
    page.picture("job-running");
    // Times only when they are wanted; a line by its link.
    let clock = "getComputedStyle(document.querySelector('.clock')).display";
    assert_eq!(page.eval(clock), "none");
    page.press("Times");
    page.wait("the times are shown", &format!("{clock} === 'block'"));
    page.press("Times");
    // Not by its place on the screen: the console moves while it is followed.
    page.eval("document.querySelector('#L1 .n').click()");
    page.wait(
        "the line is marked",
        "location.hash === '#L1' && document.querySelector('#L1.here')",
    );

    page.press("Cancel stage");
    page.wait(
        "it is cancelled",
        "document.querySelector('h1 + .state')?.innerText === 'Cancelled'",
    );
    page.wait_for_text("Rerun job");
    api.wait_for_agent(&uuid, "Enabled", "Idle");

    // Once more, to its end: a test has failed.
    page.press_and_follow("Rerun job");
    let second = job_of(&page);
    assert!(second != first, "{second:?}");
    page.wait_for_text("test cart::adds_2 ... ok");
    fs::write(&shop.gate, "").unwrap();
    page.wait(
        "it has failed",
        "document.querySelector('h1 + .state')?.innerText === 'Failed'",
    );
    page.wait_for_text("FAILED");
    page.wait(
        "it is told why",
        "!document.querySelector('#console').hasAttribute('data-active')",
    );
    page.picture("job");
    page.press_and_follow("Tests");
    let failed = page.text("details.test[open]");
    assert!(
        failed.contains("totals_with_tax") && failed.contains("expected 11.90, got 11.00"),
        "{failed}"
    );
    assert!(failed.contains("at main.rs:7 <b>"), "{failed}");
    page.picture("tests");
    page.press_and_follow("Artifacts");
    page.wait_for_text("TEST-cart.xml");
    page.press_and_follow("Materials");
    page.wait_for_text("Write page.html");

    // A search, and the way from what is found to its line.
    page.press_and_follow("Console");
    page.fill("#q", "totals_with");
    page.key("Enter");
    page.wait_for_text("1 line has totals_with");
    page.follow(".found li a");
    page.wait(
        "the line is shown",
        "document.querySelector('.here')?.innerText.includes('totals_with_tax')",
    );

    page.assert_quiet(&shop.server.http_url);

    page.press_and_follow("coverage");
    page.picture("published");
    page.press_and_follow("Pipelines");
    page.wait("the dashboard", "document.querySelector('.bar')");
    page.picture("dashboard");

    // How it looks elsewhere.
    for (path, name) in [
        ("/pipelines", "dashboard"),
        ("/agents", "agents"),
        (&job_path(&second), "job"),
    ] {
        for scheme in ["light", "dark"] {
            page.scheme(scheme);
            page.resize(1280, 800);
            page.open(&shop.url(path));
            page.picture(&format!("{name}-{scheme}"));
            page.resize(390, 844);
            page.picture(&format!("{name}-{scheme}-phone"));
            let wide =
                "document.documentElement.scrollWidth > document.documentElement.clientWidth";
            assert_eq!(page.eval(wide), false, "{name} is wider than a phone");
        }
    }
}

fn job_path(job: &Job) -> String {
    format!("/tab/build/detail/{}", job.locator)
}

#[test]
fn a_console_of_a_million_lines_opens_and_scrolls() {
    let scene = Scene::new("million");
    let shop = Shop::open(&scene);
    let api = shop.server.api();
    fs::write(&shop.gate, "").unwrap();
    let chain = Chain::install(&scene, "agent", &shop.server.http_url)
        .with_key("")
        .started();
    api.wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    let counter = api.trigger("shop");
    let job = Job::new("shop", counter, "unit");
    api.wait_for_result(&job);
    // As if the job had said so much: what makes a console is not what shows it.
    let mut text = String::from("!!|10:00:00.000 [go] Task: a great deal\n");
    for line in 2..1_000_000 {
        text.push_str(&format!(
            "&1|10:00:00.000 \x1b[3{}mline\x1b[0m {line} of many\n",
            line % 7 + 1
        ));
    }
    text.push_str("?0|10:11:12.000 [go] Task status: passed\n");
    let consoles = shop.server.data().join("blobs/consoles");
    let mut files = fs::read_dir(&consoles).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    fs::write(file, text).unwrap();

    let browser = Browser::start(&scene);
    let page = browser.page();
    shop.log_in(&page);
    let begin = Instant::now();
    page.open(&shop.url(&job_path(&job)));
    page.wait(
        "the beginning is there",
        "document.querySelector('#L2')?.innerText.includes('line 2 of many')",
    );
    let opened = begin.elapsed();
    assert_eq!(page.text("#console-lines"), "1000000");
    page.click("#console");
    page.key("End");
    page.wait(
        "the end is there",
        "document.querySelector('#L1000000')?.innerText.includes('passed')",
    );
    page.scroll("#console", -4000);
    page.wait(
        "what is before it is there",
        "document.querySelector('#L999700')?.innerText.includes('line 999700 of')",
    );
    page.eval("location.hash = '#L500000'");
    let seen = "(() => { const row = document.querySelector('#L500000.here'); if (!row) return false; \
                const at = row.getBoundingClientRect(), box = document.querySelector('#console').getBoundingClientRect(); \
                return row.innerText.includes('line 500000 of many') && at.top >= box.top && at.bottom <= box.bottom; })()";
    page.wait("a line in the middle is shown", seen);
    let rows = page
        .eval("document.querySelectorAll('.line').length")
        .as_u64()
        .unwrap();
    assert!(rows < 50_000, "{rows} lines are kept");
    page.picture("million");
    fs::create_dir_all(output()).unwrap();
    fs::write(
        output().join("million.txt"),
        format!("opened in {} ms\n", opened.as_millis()),
    )
    .unwrap();

    // Another way to a line, and the same line without a script.
    page.open(&shop.url(&format!("{}?line=700000#L700000", job_path(&job))));
    page.wait(
        "the line is there",
        "document.querySelector('#L700000')?.innerText.includes('line 700000 of')",
    );
    page.open(&shop.url(&format!("{}?q=line+123456+", job_path(&job))));
    page.wait_for_text("1 line has");
    page.assert_quiet(&shop.server.http_url);
    let plain = browser.page();
    plain.without_scripts();
    shop.log_in(&plain);
    plain.open(&shop.url(&format!("{}?line=700000", job_path(&job))));
    plain.wait(
        "the line is there",
        "document.querySelector('#L700000')?.innerText.includes('line 700000 of')",
    );
    let next = "a[href='?line=700502#L700502']";
    plain.follow(next);
    plain.wait(
        "the next ones are there",
        "document.querySelector('#L700502')?.innerText.includes('line 700502 of')",
    );
}

#[test]
fn nothing_needs_a_script() {
    let scene = Scene::new("no-script");
    let shop = Shop::open(&scene);
    let api = shop.server.api();
    let chain = Chain::install(&scene, "agent", &shop.server.http_url).started();
    let uuid = chain.uuid();
    wait_until("the agent is known", || api.agent(&uuid).is_some());
    let browser = Browser::start(&scene);
    let page = browser.page();
    page.without_scripts();
    shop.log_in(&page);

    // Several agents at once: ticked, enabled, given a resource.
    page.click(&format!("[name=uuid][value='{uuid}']"));
    page.follow("#bulk [value=enable]");
    page.click(&format!("[name=uuid][value='{uuid}']"));
    page.fill("#bulk [name=add]", "linux, jdk");
    page.follow("#bulk [value=resources]");
    page.wait_for_text("jdk");
    page.fill("#filter", "no such agent");
    page.press_and_follow("Filter");
    page.wait_for_text("No agent fits the filter");
    api.wait_for_agent(&uuid, "Enabled", "Idle");

    page.press_and_follow("Pipelines");
    page.press_and_follow("Trigger shop");
    let job = Job::new("shop", 1, "unit");
    api.wait_for_output(&job, "test cart::adds_2 ... \x1b[32mok\x1b[0m");
    page.open(&shop.url(&job_path(&job)));
    page.wait_for_text("test cart::adds_2 ... ok");
    page.press_and_follow("Cancel stage");
    assert_eq!(page.text("h1 + .state"), "Cancelled");
    api.wait_for_agent(&uuid, "Enabled", "Idle");
    fs::write(&shop.gate, "").unwrap();
    page.press_and_follow("Rerun job");
    let again = job_of(&page);
    assert_eq!(api.wait_for_result(&again).result, "Failed");
    page.press_and_follow("Tests");
    page.wait_for_text("expected 11.90, got 11.00");
    page.press_and_follow("Artifacts");
    page.wait_for_text("TEST-cart.xml");
    page.press_and_follow("Log out");
    page.open(&shop.url("/agents"));
    assert!(page.text("main").contains("Password"));
    page.assert_quiet(&shop.server.http_url);
}

#[test]
fn people_sign_in_with_a_provider() {
    let scene = Scene::new("browser-sign-in");
    let provider = Provider::start(&scene);
    let mut arguments = provider.arguments();
    arguments.push("--oidc-new-users=create".to_owned());
    arguments.push("--oidc-role=staff=view".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start_with(&scene, "server", &arguments);
    provider.open(&server);
    let browser = Browser::start(&scene);
    let page = browser.page();
    page.open(&format!("{}/agents", server.http_url));
    page.follow("main a.button");
    page.fill("[name=login]", "ann-1");
    page.fill("[name=password]", "any");
    page.follow("button[type=submit]");
    // Back where the way to the login page began, as whom the provider says.
    assert_eq!(page.eval("location.pathname"), "/go/agents");
    assert_eq!(page.text(".account a"), "ann");
    page.follow(".account button");
    assert_eq!(page.eval("location.pathname"), "/go/auth/login");
}
