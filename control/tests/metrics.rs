//! Metrics, as a scraper finds them: over both kinds of address and in both formats, the
//! same numbers as `hairpin stats`, and nobody who asks can keep others from it.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use daemon::{
    Daemon, LOCAL, PATIENCE, Place, assert_frames_pass, eventually, in_own_network, port, stderr,
};
use means::{has_means, has_program};
use rustix::process::Signal;

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Far more than the daemon takes at a time (`http::CONNECTIONS_MAX`).
const CROWD: usize = 200;

/// What came back.
struct Response {
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn ask(mut stream: impl Read + Write, head: &str) -> Response {
    write!(stream, "{head}\r\nHost: hairpin\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().to_owned();
    let header = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap();
        (key.to_ascii_lowercase(), value.to_owned())
    };
    Response { status, headers: lines.map(header).collect(), body: body.to_owned() }
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Samples by name and labels, as they are written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

fn scrape(path: &Path) -> BTreeMap<String, f64> {
    samples(&ask(connect(path), "GET /metrics HTTP/1.1").body)
}

/// A daemon's place, and where its metrics are.
fn place(metrics: &str, objects: &str) -> Place {
    let place = Place::new();
    place.write(&format!("metrics = \"{metrics}\"\n{objects}"));
    place
}

/// One whose metrics are at a socket beside that of the API.
fn at_socket(objects: &str) -> (Place, std::path::PathBuf) {
    let place = Place::new();
    let socket = place.socket().with_file_name("metrics.sock");
    place.write(&format!("metrics = \"unix:{}\"\n{objects}", socket.display()));
    (place, socket)
}

/// A port of this host's that nobody has: until a moment ago, we had it.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_socket_of_either_kind_answers_in_either_format_and_goes_with_the_daemon() {
    let (place, socket) = at_socket(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let plain = ask(connect(&socket), "GET /metrics HTTP/1.1");
    assert_eq!((&*plain.status, &*plain.headers["content-type"]), ("HTTP/1.1 200 OK", TEXT));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let open = ask(connect(&socket), &format!("GET /metrics HTTP/1.1\r\n{accept}"));
    assert_eq!((&*open.status, &*open.headers["content-type"]), ("HTTP/1.1 200 OK", OPEN));
    assert!(open.body.ends_with("\n# EOF\n") && !plain.body.contains("# EOF"));
    assert!(open.body.contains("# UNIT hairpin_uptime_seconds seconds\n"), "{}", open.body);
    for body in [open.body, plain.body] {
        let samples = samples(&body);
        assert_eq!(samples["hairpin_port_state{port=\"up0\",kind=\"link\",state=\"up\"}"], 1.0);
        assert_eq!(samples["hairpin_port_state{port=\"up0\",kind=\"link\",state=\"down\"}"], 0.0);
        assert_eq!(samples["hairpin_worker_health{worker=\"0\",health=\"breathing\"}"], 1.0);
        assert_eq!(samples["hairpin_fdb_capacity_addresses"], 65536.0);
        assert_eq!(samples["hairpin_switch_info{name=\"t\"}"], 1.0);
        assert_eq!(Some(samples["hairpin_revision"]), place.json("show")["revision"].as_f64());
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert!(!socket.exists());
}

#[test]
fn an_address_of_the_hosts_answers_and_is_one_switch_s() {
    let address = free_address();
    let place = place(&address, LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let connect = || TcpStream::connect(&address).unwrap();
    assert!(ask(connect(), "GET /metrics HTTP/1.1").body.contains("hairpin_build_info{version="));
    let second = self::place(&address, LOCAL);
    let refused = second.daemon_command().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = format!("switch: metrics: another program answers at {address}; stop that");
    assert!(stderr(&refused).contains(&said), "{}", stderr(&refused));
    assert!(!second.socket().exists(), "the start that failed leaves nothing");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn only_what_is_there_is_answered() {
    let (place, socket) = at_socket(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let status = |head: &str| ask(connect(&socket), head).status;
    assert_eq!(status("GET /metrics?x=1 HTTP/1.1"), "HTTP/1.1 200 OK");
    assert_eq!(status("GET / HTTP/1.1"), "HTTP/1.1 404 Not Found");
    assert_eq!(status("POST /metrics HTTP/1.1"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status("nonsense"), "HTTP/1.1 400 Bad Request");
    let head = ask(connect(&socket), "HEAD /metrics HTTP/1.1");
    assert_eq!((&*head.status, &*head.body), ("HTTP/1.1 200 OK", ""));
    assert!(head.headers["content-length"].parse::<usize>().unwrap() > 1000);
    let wide = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(7 << 10));
    assert_eq!(status(&wide), "HTTP/1.1 200 OK");
    let mut endless = connect(&socket);
    // It stops listening before we have stopped talking.
    let _ = endless
        .write_all(format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20)).as_bytes());
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

/// Whether the other end hung up.
fn is_closed(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0; 1 << 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn a_crowd_that_says_nothing_or_does_not_listen_keeps_nobody_out() {
    let (place, socket) = at_socket(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let mut silent: Vec<UnixStream> = Vec::new();
    for number in 0..CROWD {
        let mut stream = connect(&socket);
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\n",
            _ => b"GET /metrics HTTP/1.1\r\n\r\n",
        };
        // One who was hung up on meanwhile is one of the crowd all the same.
        let _ = stream.write_all(said);
        stream.set_nonblocking(true).unwrap();
        silent.push(stream);
        if number % 20 == 0 {
            assert!(scrape(&socket).contains_key("hairpin_uptime_seconds"));
        }
    }
    let descriptors = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    assert!(std::fs::read_dir(descriptors).unwrap().count() < 100, "of {CROWD} few are open");
    eventually("an end of those that were first", || silent[..100].iter_mut().all(is_closed));
    eventually("an end of all who say nothing", || silent.iter_mut().all(is_closed));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn addresses_that_cannot_be_are_refused_with_the_remedy() {
    let check = |metrics: &str| {
        let place = place(metrics, LOCAL);
        let output = place.client(&format!("check {}", place.file().display()));
        assert_eq!(output.status.code(), Some(1), "{metrics}");
        stderr(&output)
    };
    for wrong in ["0.0.0.0:9750", "localhost:9750", "unix:metrics.sock", "9750"] {
        let said = check(wrong);
        let expected = ":5: switch: metrics: ";
        assert!(said.contains(expected) && said.contains("127.0.0.1:9750"), "{said}");
    }
    let place = Place::new();
    place.write(&format!("metrics = \"unix:{}\"\n{LOCAL}", place.socket().display()));
    let output = place.client(&format!("check {}", place.file().display()));
    let said = "is already that of the API; give each its own";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}

#[test]
fn counters_are_those_of_stats_and_workers() {
    if !has_means("counters_are_those_of_stats_and_workers") {
        return;
    }
    let (place, socket) =
        at_socket(&format!("{LOCAL}{}{}", port("vm1", "tap1"), port("vm2", "tap2")));
    let daemon = in_own_network(&place, &[]);
    assert_frames_pass(&place, &daemon, "tap1", "vm1", "vm2");
    // The kernel's own frames come when they please: what stood still meanwhile agrees.
    eventually("a moment in which nothing moves", || {
        let before = place.json("stats");
        let scraped = scrape(&socket);
        std::thread::sleep(std::time::Duration::from_millis(150));
        before == place.json("stats") && agrees(&before["ports"], &scraped)
    });
    let (scraped, workers) = (scrape(&socket), place.json("workers"));
    let queues = workers["workers"][0]["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 2);
    let labels = "port=\"vm1\",queue=\"0\",worker=\"0\"";
    let sample = |name: &str| scraped[&format!("hairpin_queue_{name}_total{{{labels}}}")];
    assert!(sample("receive_frames") > 0.0 && sample("receive_bytes") > 0.0);
    assert!(sample("busy_seconds") > 0.0 && sample("busy_seconds") < 10.0);
    assert!(scraped["hairpin_worker_busy_seconds_total{worker=\"0\"}"] > 0.0);
    assert!(scraped["hairpin_worker_breaths_total{worker=\"0\"}"] > 0.0);
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

/// Whether what was scraped is what `stats` says.
fn agrees(ports: &serde_json::Value, scraped: &BTreeMap<String, f64>) -> bool {
    let names = [
        ("rx_frames", "receive_frames"),
        ("rx_bytes", "receive_bytes"),
        ("tx_frames", "transmit_frames"),
        ("tx_bytes", "transmit_bytes"),
        ("decided", "decided_frames"),
        ("fan_out", "fan_out_frames"),
        ("offered", "offered_frames"),
        ("segments", "software_segments"),
        ("device_drops", "device_dropped_frames"),
    ];
    ["vm1", "vm2"].into_iter().all(|port| {
        let stats = &ports[port];
        let same = |&(in_stats, name): &(&str, &str)| {
            let name = format!("hairpin_port_{name}_total{{port=\"{port}\",kind=\"port\"}}");
            stats[in_stats].as_f64() == Some(scraped[&name])
        };
        let drops = scraped.iter().filter(|(name, _)| {
            let family = "hairpin_port_dropped_frames_total{";
            name.starts_with(family) && name.contains(&format!("port=\"{port}\""))
        });
        let told: BTreeMap<&str, f64> = drops
            .map(|(name, count)| {
                (name.split("reason=\"").nth(1).unwrap().trim_end_matches("\"}"), *count)
            })
            .collect();
        let counted: BTreeMap<&str, f64> = stats["drops"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(reason, count)| (&**reason, count.as_f64().unwrap()))
            .collect();
        names.iter().all(same) && told == counted
    })
}

#[test]
fn promtool_finds_nothing_to_say() {
    let test = "promtool_finds_nothing_to_say";
    if !has_program(test, "promtool", "prometheus") {
        return;
    }
    let vhost = "[[port]]\nname = \"vm9\"\nchannel = \"up0\"\nmode = \"veb\"\n";
    let (place, socket) = at_socket("");
    let vm = place.socket().with_file_name("vm9.sock");
    let device = format!(
        "device = {{ vhost-user = {{ socket = \"{}\", role = \"server\" }} }}\n",
        vm.display()
    );
    place.write(&format!("metrics = \"unix:{}\"\n{LOCAL}{vhost}{device}", socket.display()));
    let daemon = Daemon::start(place.daemon_command());
    let text = ask(connect(&socket), "GET /metrics HTTP/1.1").body;
    assert!(text.contains("hairpin_port_vhost_reconnects_total{port=\"vm9\""), "{text}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = (daemon::stdout(&output), stderr(&output));
    assert_eq!((output.status.code(), said), (Some(0), Default::default()));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}
