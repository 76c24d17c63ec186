//! A real browser: Debian's Chromium without a window, spoken to in its DevTools protocol.
//!
//! Chromium takes messages from an inherited pipe and writes answers and events to another one
//! (`--remote-debugging-pipe`): JSON, each ended by a zero byte. That needs neither a driver
//! program nor a port nor a client library.

use std::{
    collections::HashMap,
    env, fs,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};

use crate::{
    binaries,
    patience::{patience, wait_for, wait_until},
    scene::Scene,
    server::wait_for_end,
};

/// A browser that keeps nothing.
pub struct Browser {
    child: Option<Child>,
    wire: Arc<Wire>,
}

/// A page with cookies of its own.
pub struct Page {
    wire: Arc<Wire>,
    session: String,
    width: u32,
}

struct Wire {
    to: Mutex<File>,
    heard: Mutex<Heard>,
    news: Condvar,
}

#[derive(Default)]
struct Heard {
    last: u64,
    answers: HashMap<u64, Value>,
    events: Vec<Value>,
    ended: bool,
}

impl Browser {
    /// Starts one that finds no host but this one.
    pub fn start(scene: &Scene) -> Self {
        let folder = scene.folder("browser");
        let (to, from) = (folder.join("to"), folder.join("from"));
        for path in [&to, &from] {
            mkfifo(path, Mode::S_IRWXU).expect("a pipe with a name");
        }
        // A shell, because a pipe gets its number between fork and exec.
        let mut command = scene.command(Path::new("sh"));
        let child = command
            .args(["-c", "exec \"$@\" 3<\"$TO\" 4>\"$FROM\"", "sh"])
            .arg(program())
            .args([
                "--headless",
                "--remote-debugging-pipe",
                // The tests may be run by root, who gets no sandbox; nothing foreign is opened.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-breakpad",
                "--disable-crash-reporter",
                "--password-store=basic",
                "--force-color-profile=srgb",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.join("profile").display()
            ))
            .env("TO", &to)
            .env("FROM", &from)
            .env("HOME", &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("chromium.log")).expect("a log"))
            .spawn()
            .expect("sh");
        let to = File::options()
            .write(true)
            .open(to)
            .expect("the pipe to the browser");
        let from = File::open(from).expect("the pipe from the browser");
        let wire = Arc::new(Wire {
            to: Mutex::new(to),
            heard: Mutex::default(),
            news: Condvar::new(),
        });
        thread::spawn({
            let wire = Arc::clone(&wire);
            move || wire.listen(from)
        });
        Self {
            child: Some(child),
            wire,
        }
    }

    /// A new page, which knows nobody.
    pub fn page(&self) -> Page {
        let context = self
            .wire
            .call(None, "Target.createBrowserContext", json!({}));
        let target = self.wire.call(
            None,
            "Target.createTarget",
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"] }),
        );
        let attached = self.wire.call(
            None,
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        );
        let session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        let mut page = Page {
            wire: Arc::clone(&self.wire),
            session,
            width: 0,
        };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize(1280, 800);
        page.scheme("light");
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if thread::panicking() {
            // The scene ends what is left.
            let _ = child.kill();
            let _ = child.wait();
        } else {
            self.wire.send(None, "Browser.close", json!({}));
            wait_for_end(&mut child);
        }
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no thread has panicked")
    }

    fn listen(&self, from: File) {
        let mut from = BufReader::new(from);
        let mut message = Vec::new();
        while from.read_until(0, &mut message).is_ok_and(|read| read > 0) {
            message.pop();
            let value: Value = serde_json::from_slice(&message).expect("JSON of the browser");
            message.clear();
            let mut heard = self.lock();
            match value["id"].as_u64() {
                Some(id) => drop(heard.answers.insert(id, value)),
                None => heard.events.push(value),
            }
            self.news.notify_all();
        }
        self.lock().ended = true;
        self.news.notify_all();
    }

    fn send(&self, session: Option<&str>, method: &str, parameters: Value) -> u64 {
        let id = {
            let mut heard = self.lock();
            heard.last += 1;
            heard.last
        };
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let mut to = self.to.lock().expect("no thread has panicked");
        to.write_all(&bytes).expect("the browser listens");
        id
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = self.send(session, method, parameters);
        let heard = self.lock();
        let (mut heard, waited) = self
            .news
            .wait_timeout_while(heard, patience(), |heard| {
                !heard.ended && !heard.answers.contains_key(&id)
            })
            .expect("no thread has panicked");
        assert!(!waited.timed_out(), "{method} is not answered");
        let mut answer = heard.answers.remove(&id).expect("the browser has ended");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }
}

impl Page {
    fn call(&self, method: &str, parameters: Value) -> Value {
        self.wire.call(Some(&self.session), method, parameters)
    }

    /// Opens an address and waits until all of the page is there.
    pub fn open(&self, url: &str) {
        // Told apart from the page before by a mark that goes with it.
        self.eval("window.left = true");
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        if answer.get("loaderId").is_some() {
            self.loaded(url);
        }
    }

    fn loaded(&self, what: &str) {
        self.wait(
            &format!("{what} is loaded"),
            "document.readyState === 'complete' && !window.left",
        );
    }

    /// What an expression is now.
    pub fn eval(&self, expression: &str) -> Value {
        let mut answer = self.call(
            "Runtime.evaluate",
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }),
        );
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub fn wait(&self, what: &str, expression: &str) {
        let look = format!("Boolean({expression})");
        wait_until(what, || {
            // A page that is being left can answer nothing.
            let parameters = json!({ "expression": look, "returnByValue": true });
            let answer = self.call("Runtime.evaluate", parameters);
            answer["result"]["value"] == true
        });
    }

    /// Waits until the page's main part has a text.
    pub fn wait_for_text(&self, text: &str) {
        let look = format!(
            "document.querySelector('main')?.innerText.includes({})",
            json!(text)
        );
        self.wait(&format!("the page says {text:?}"), &look);
    }

    /// The text that an element shows.
    pub fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!(
            "document.querySelector({})?.innerText",
            json!(selector)
        ));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the first visible element that a selector finds, once it is there, with the mouse.
    pub fn click(&self, selector: &str) {
        self.click_one(
            &format!("document.querySelectorAll({})", json!(selector)),
            selector,
        );
    }

    /// Clicks the link or button with a text.
    pub fn press(&self, text: &str) {
        let found = format!(
            "[...document.querySelectorAll('a, button, summary, label')].filter(one => one.textContent.trim().replace(/\\s+/g, ' ') === {})",
            json!(text)
        );
        self.click_one(&found, text);
    }

    fn click_one(&self, found: &str, what: &str) {
        let look = format!(
            "(() => {{ for (const one of {found}) {{ if (!one.checkVisibility()) continue; \
             one.scrollIntoView({{ block: 'nearest' }}); \
             const at = one.getClientRects()[0]; \
             const place = {{ x: at.x + at.width / 2, y: at.y + at.height / 2 }}; \
             const hit = document.elementFromPoint(place.x, place.y); \
             if (one === hit || one.contains(hit)) return place; }} return null; }})()"
        );
        let place = wait_for(&format!("{what:?} can be clicked"), || {
            Some(self.eval(&look)).filter(|place| !place.is_null())
        });
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1 }),
            );
        }
    }

    /// Clicks something that leads to another page, and waits for that.
    pub fn follow(&self, selector: &str) {
        self.eval("window.left = true");
        self.click(selector);
        self.loaded(selector);
    }

    /// The same for a link or button with a text.
    pub fn press_and_follow(&self, text: &str) {
        self.eval("window.left = true");
        self.press(text);
        self.loaded(text);
    }

    /// Writes into a field.
    pub fn fill(&self, selector: &str, text: &str) {
        self.click(selector);
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key, by its name (`End`, `Tab`, `Enter`).
    pub fn key(&self, name: &str) {
        let code = match name {
            "End" => 35,
            "Home" => 36,
            "Tab" => 9,
            "Enter" => 13,
            "PageDown" => 34,
            _ => panic!("the key {name} has no code here"),
        };
        let text = if name == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text }),
            );
        }
    }

    /// Turns the wheel over an element.
    pub fn scroll(&self, selector: &str, pixels: i64) {
        let place = self.eval(&format!(
            "(() => {{ const at = document.querySelector({}).getBoundingClientRect(); \
             return {{ x: at.x + 50, y: at.y + 50 }}; }})()",
            json!(selector)
        ));
        self.call(
            "Input.dispatchMouseEvent",
            json!({ "type": "mouseWheel", "x": place["x"], "y": place["y"], "deltaX": 0, "deltaY": pixels }),
        );
    }

    /// Runs a script in each page before its own.
    pub fn before_scripts(&self, script: &str) {
        let parameters = json!({ "source": script });
        self.call("Page.addScriptToEvaluateOnNewDocument", parameters);
    }

    pub fn without_scripts(&self) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": true }),
        );
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        self.width = width;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
    }

    /// Prefers `light` or `dark`.
    pub fn scheme(&self, scheme: &str) {
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// Keeps a picture of the page as test output: `target/browser/NAME.png`.
    pub fn picture(&self, name: &str) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = STANDARD.decode(shot["data"].as_str().expect("a picture"));
        let folder = output();
        fs::create_dir_all(&folder).expect("a folder for pictures");
        let path = folder.join(format!("{name}.png"));
        fs::write(path, bytes.expect("base64")).expect("a picture");
    }

    /// Fails unless all that was asked for came from here and the page has had no error.
    pub fn assert_quiet(&self, own: &str) {
        let heard = self.wire.lock();
        for event in &heard.events {
            if event["sessionId"] != self.session.as_str() {
                continue;
            }
            let parameters = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    let url = parameters["request"]["url"].as_str().unwrap_or_default();
                    let is_own = url.starts_with(own)
                        || ["about:", "data:", "blob:"]
                            .iter()
                            .any(|begin| url.starts_with(begin));
                    assert!(is_own, "a page asks for {url}");
                }
                "Runtime.exceptionThrown" => panic!("a script has failed: {parameters}"),
                "Log.entryAdded" => {
                    let is_error = parameters["entry"]["level"] == "error";
                    assert!(!is_error, "the browser complains: {parameters}");
                }
                "Runtime.consoleAPICalled" => {
                    let kind = parameters["type"].as_str().unwrap_or_default();
                    assert!(
                        !matches!(kind, "error" | "warning" | "assert"),
                        "{parameters}"
                    );
                }
                _ => {}
            }
        }
    }
}

/// Where pictures are kept.
pub fn output() -> PathBuf {
    let target = binaries::folder();
    target.parent().unwrap_or(&target).join("browser")
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut places = env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    places
        .find(|place| place.is_file())
        .expect("no Chromium in the PATH: `.ci/prepare test` installs it")
}
