//! Headless Chromium, driven by WebDriver through chromedriver.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hairpin_bench::process::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than Chromium takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one window. Dropping it ends it.
pub struct Browser {
    _driver: Process,
    port: u16,
    session: String,
    /// Its profile and whatever else it writes.
    home: TempDir,
}

/// Whether there is a browser; says that `test` is skipped if not.
///
/// # Panics
/// If not, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
pub fn is_there(test: &str) -> bool {
    let lacking = ["chromium", "chromedriver", "setpriv"].into_iter().find(|program| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        !command.status().is_ok_and(|status| status.success())
    });
    let Some(lacking) = lacking else { return true };
    let lacking = format!("there is no `{lacking}` (Debian packages chromium, chromium-driver)");
    let all = std::env::var("HAIRPIN_TESTS").is_ok_and(|value| value == "all");
    assert!(!all, "HAIRPIN_TESTS=all, but {lacking}");
    // Not by a macro of the print family, whose output the harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {lacking}");
    false
}

impl Browser {
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let place = home.path().as_os_str();
        let environment: [(&str, &OsStr); 4] = [
            ("HOME", place),
            ("TMPDIR", place),
            ("XDG_CONFIG_HOME", place),
            ("XDG_CACHE_HOME", place),
        ];
        let driver = Process::spawn("chromedriver", "chromedriver", &["--port=0"], &environment)
            .expect("it starts");
        let started = "was started successfully on port ";
        let said = driver.read_until(PATIENCE, |line| line.contains(started)).expect("its port");
        let port = said.last().and_then(|line| line.text.split(started).nth(1)).expect("a port");
        let port = port.trim_end_matches('.').parse().expect("a number");
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        // The sandbox needs what root and containers do not have; the page is our own.
        let arguments = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            profile,
        ]);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let answer = call(port, "POST", "/session", &wanted);
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        Self { _driver: driver, port, session, home }
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        call(self.port, "POST", &format!("/session/{}/{command}", self.session), body)
    }

    /// A command of Chromium's own protocol.
    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The window's width, and what the page is shown on.
    pub fn show_as(&self, width: u32, colours: &str, medium: &str) {
        let size = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": colours }]);
        let media = json!({ "media": medium, "features": features });
        self.devtools("Emulation.setEmulatedMedia", media);
    }

    pub fn open(&self, address: &str) {
        self.post("url", &json!({ "url": address }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What the page has written on its console, or the browser about it.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" }));
        entries.as_array().expect("a list").iter().map(ToString::to_string).collect()
    }

    /// The whole page as PNG, in base64.
    pub fn picture(&self) -> String {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.devtools("Page.captureScreenshot", parameters);
        answer["data"].as_str().expect("a picture").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes end with the session; chromedriver alone would leave them.
        let path = format!("/session/{}", self.session);
        let _ = request(self.port, "DELETE", &path, &Value::Null);
        // They write into their home until they are gone.
        let end = Instant::now() + Duration::from_secs(20);
        let home = self.home.path();
        while !processes_of(home).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Chromium's processes, by their home.
fn processes_of(home: &Path) -> Vec<u32> {
    let home = format!("HOME={}\0", home.display());
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_home = |number: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        name.trim() != "chromedriver"
            && environment.windows(home.len()).any(|part| part == home.as_bytes())
    };
    numbers.filter(of_home).collect()
}

/// What a command gives.
#[track_caller]
fn call(port: u16, method: &str, path: &str, body: &Value) -> Value {
    let answer = request(port, method, path, body).expect("an answer");
    let mut answer: Value = serde_json::from_str(&answer).expect("chromedriver answers in JSON");
    let value = answer["value"].take();
    assert!(value.get("error").is_none(), "{method} {path}: {value}");
    value
}

/// One request on a connection of its own.
fn request(port: u16, method: &str, path: &str, body: &Value) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let expected = head.split("content-length:").nth(1);
            let expected = expected.and_then(|rest| rest.lines().next()?.trim().parse().ok());
            if length == 0 || expected.is_some_and(|expected: usize| body.len() >= expected) {
                return Ok(body.to_owned());
            }
        }
        if length == 0 {
            return Err(std::io::Error::other("chromedriver broke off"));
        }
    }
}
