//! Chromium without a window, driven by `chromedriver` over its protocol.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use busway_types::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a page may take for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program that drives browsers; ended with the test.
pub(crate) struct Driver {
    child: Child,
    url: String,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let mut command = Command::new("chromedriver");
        let child = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("chromedriver is installed (`cargo xtask test` installs chromium-driver)");
        let told = BufReader::new(child.stdout.take().expect("a pipe"));
        let port = told.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        Self { child, url: format!("http://127.0.0.1:{}", port.expect("a port")) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser with a profile of its own.
pub(crate) struct Browser {
    session: String,
    _profile: TempDir,
}

/// What the protocol calls the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    pub(crate) fn open(driver: &Driver, page: &str) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let arguments = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            format!("--user-data-dir={}", profile.path().display()),
        ]);
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let made = call(&format!("{}/session", driver.url), &wanted).expect("a browser");
        let session = format!("{}/session/{}", driver.url, made["sessionId"].as_str().expect("an id"));
        let browser = Self { session, _profile: profile };
        browser.post("url", &json!({ "url": page }));
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        call(&format!("{}/{path}", self.session), body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": css }));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Types into a field.
    pub(crate) fn write(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), &json!({}));
        self.post(&format!("element/{element}/value"), &json!({ "text": text }));
    }

    pub(crate) fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// What a script gives.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script gives this.
    pub(crate) fn wait(&self, script: &str, wanted: &Value) {
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let found = self.run(script);
            if found == *wanted {
                return;
            }
            assert!(clock.now().since(began) < PATIENCE, "{script}: {found} instead of {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
    }
}

/// One command.
fn call(url: &str, body: &Value) -> Result<Value, String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
    let sent = ureq::Agent::new_with_config(config)
        .post(url)
        .header("content-type", "application/json")
        .send(body.to_string());
    let text =
        sent.map_err(|error| error.to_string())?.body_mut().read_to_string().map_err(|error| error.to_string())?;
    let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    if answer["value"]["error"].is_string() {
        return Err(answer["value"].to_string());
    }
    Ok(answer["value"].take())
}
