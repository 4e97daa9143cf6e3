//! Rates, order and the screen, without a switch and without a terminal.

use std::time::{Duration, Instant};

use hairpin_proto::v1;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::keys::{Outcome, press};
use super::model::{Connection, Model, Sample};
use super::screen::{Page, Screen};

const SIZES: [(u16, u16); 3] = [(80, 24), (200, 60), (40, 10)];

fn counters(received: u64, sent: u64, drops: &[(&str, u64)]) -> v1::Counters {
    v1::Counters {
        rx_frames: received,
        rx_bytes: 100 * received,
        tx_frames: sent,
        tx_bytes: 50 * sent,
        drops: drops.iter().map(|&(reason, count)| (reason.to_owned(), count)).collect(),
        ..v1::Counters::default()
    }
}

fn port(name: &str, state: v1::State) -> v1::Port {
    v1::Port { name: name.to_owned(), state: state as i32, ..v1::Port::default() }
}

/// Three ports and a link, `seconds` after `start`, each second like the one before.
fn sample(start: Instant, seconds: u64) -> Sample {
    let mut vm1 = port("vm1", v1::State::Up);
    vm1.vmm = Some(v1::Vmm { features: vec!["mrg_rxbuf".to_owned()], ..v1::Vmm::default() });
    let mut vm3 = port("vm3", v1::State::Quarantined);
    vm3.last_error = "serving it failed".to_owned();
    let link = v1::Link { name: "up0".to_owned(), state: 1, ..v1::Link::default() };
    let queue =
        |port: &str, frames| v1::Queue { port: port.to_owned(), frames, ..v1::Queue::default() };
    let worker = v1::Worker {
        index: 0,
        cpu: Some(3),
        breaths: 500 * seconds,
        sleeps: 7 * seconds,
        load: 0.42,
        health: v1::WorkerHealth::Breathing as i32,
        queues: vec![queue("vm1", 2000 * seconds), queue("vm2", 8000 * seconds)],
        ..v1::Worker::default()
    };
    let show = v1::ShowResponse {
        name: "host1".to_owned(),
        uptime_ms: 10_000 + 1000 * seconds,
        revision: 4,
        ports: vec![vm1, port("vm2", v1::State::Up), vm3],
        links: vec![link],
        workers: vec![worker],
        ..v1::ShowResponse::default()
    };
    let drops = [("private", 3 * seconds), ("rx_ring_full", 200)];
    let ports = [
        ("vm1", counters(2000 * seconds, 8000 * seconds, &drops)),
        ("vm2", counters(8000 * seconds, 2000 * seconds, &[("rx_ring_full", 50 * seconds)])),
        ("up0", counters(seconds, 0, &[])),
    ];
    let ports = ports.into_iter().map(|(name, counters)| (name.to_owned(), counters));
    let stats = v1::StatsResponse { ports: ports.collect() };
    let event = v1::Event {
        sequence: seconds,
        at_ms: 1000 * seconds,
        kind: v1::EventKind::Quarantined as i32,
        object: "port vm3".to_owned(),
        cause: format!("fault {seconds}"),
        ..v1::Event::default()
    };
    Sample { at: start + Duration::from_secs(seconds), show, stats, events: vec![event] }
}

fn model() -> Model {
    let start = Instant::now();
    let mut model = Model::new(start);
    (1..=6).for_each(|seconds| model.take(sample(start, seconds)));
    model
}

/// What a terminal of that size shows, line by line.
fn drawn(model: &Model, screen: &mut Screen, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now = Instant::now() + Duration::from_secs(5);
    terminal.draw(|frame| draw(frame, model, screen, now)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer.content().chunks(width.into());
    lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
}

fn type_in(screen: &mut Screen, model: &Model, keys: &[KeyCode]) {
    for &key in keys {
        let key = KeyEvent::new(key, KeyModifiers::NONE);
        assert_eq!(press(screen, model, key), Outcome::Stay);
    }
}

fn names(screen: &Screen, model: &Model) -> Vec<String> {
    screen.rows(model).iter().map(|row| row.name.clone()).collect()
}

#[test]
fn rates_are_of_two_looks_and_a_restart_begins_anew() {
    let start = Instant::now();
    let mut model = Model::new(start);
    model.take(sample(start, 1));
    assert_eq!(model.sum().rx_frames, 0.0, "one look makes no rate");
    model.take(sample(start, 3));
    let rates = model.rows.iter().find(|row| row.name == "vm1").unwrap().rates;
    assert_eq!((rates.rx_frames, rates.rx_bits), (2000.0, 1_600_000.0));
    assert_eq!((rates.tx_frames, rates.tx_bits, rates.drops), (8000.0, 3_200_000.0, 3.0));
    assert_eq!(model.sum().rx_frames, 10_000.0, "of ports, not of links");
    let worker = &model.workers[0];
    assert_eq!((worker.frames, worker.breaths, worker.frames_per_breath), (10_000.0, 500.0, 20.0));
    let (worst, at) = &model.drops()[0];
    assert_eq!(
        (&*worst.reason, worst.frames, worst.rate, &**at),
        ("rx_ring_full", 350, 50.0, "vm2")
    );

    let mut restarted = sample(start, 1);
    restarted.at = start + Duration::from_secs(4);
    model.take(restarted);
    assert_eq!((model.sum().rx_frames, model.workers[0].breaths), (0.0, 0.0));
    let mut next = sample(start, 2);
    next.at = start + Duration::from_secs(5);
    model.take(next);
    assert_eq!(model.sum().rx_frames, 10_000.0);
}

#[test]
fn what_goes_takes_its_history_along_and_one_without_counters_has_none() {
    let start = Instant::now();
    let mut model = model();
    assert_eq!(model.history("vm1").unwrap().received(9), [2000; 5]);
    assert_eq!(model.history("vm3").unwrap().received(9), [0; 5]);
    let mut without = sample(start, 10);
    without.show.ports.remove(0);
    model.take(without);
    assert!(model.history("vm1").is_none() && model.history("vm2").is_some());
}

#[test]
fn ports_are_sorted_and_filtered_and_the_reader_stays_where_they_are() {
    let (model, mut screen) = (model(), Screen::default());
    assert_eq!(names(&screen, &model), ["up0", "vm1", "vm2", "vm3"]);
    type_in(&mut screen, &model, &[KeyCode::Down]);
    assert_eq!(screen.selected.as_deref(), Some("vm1"));
    type_in(&mut screen, &model, &[KeyCode::Char('r')]);
    assert_eq!(names(&screen, &model), ["vm2", "vm1", "up0", "vm3"]);
    assert_eq!(screen.position(&screen.rows(&model)), 1, "still at vm1");
    type_in(&mut screen, &model, &[KeyCode::Char('d'), KeyCode::Char('S')]);
    assert_eq!(names(&screen, &model), ["vm3", "up0", "vm1", "vm2"]);
    type_in(&mut screen, &model, &[KeyCode::Char('s')]);
    assert_eq!(names(&screen, &model)[0], "vm3", "the state that is worst");
    let filter: Vec<KeyCode> = "/VMq".chars().map(KeyCode::Char).collect();
    type_in(&mut screen, &model, &filter);
    assert!(names(&screen, &model).is_empty(), "q is no command here");
    type_in(&mut screen, &model, &[KeyCode::Backspace, KeyCode::Enter, KeyCode::End]);
    assert_eq!(names(&screen, &model).len(), 3);
    let filter: Vec<KeyCode> = "/quar".chars().map(KeyCode::Char).collect();
    type_in(&mut screen, &model, &filter);
    assert_eq!(names(&screen, &model), ["vm3"]);
    type_in(&mut screen, &model, &[KeyCode::Esc, KeyCode::Home, KeyCode::PageDown, KeyCode::Up]);
    assert_eq!(names(&screen, &model).len(), 4);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut screen, &model, control_c), Outcome::Quit);
    let q = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
    assert_eq!(press(&mut screen, &model, q), Outcome::Quit);
}

#[test]
fn the_list_shows_what_matters_at_every_size() {
    let model = model();
    for size in SIZES {
        let text = drawn(&model, &mut Screen::default(), size);
        for word in ["hairpin host1", "vm1", "up", "2.00k", "8.00k", "quarantined", "? help"] {
            assert!(text.contains(word), "{size:?} has no {word}:\n{text}");
        }
        if size.1 < 24 {
            continue;
        }
        let more = ["rx_ring_full", "private", "breathing", "42.0 %", "20.0", "in 10.0k/s", "█"];
        for word in more.into_iter().chain(["1.60M", "1 not up", "FRAMES/BREATH", "HISTORY"]) {
            assert!(text.contains(word), "{size:?} has no {word}:\n{text}");
        }
    }
}

#[test]
fn a_port_shows_why_frames_are_lost_and_what_to_do() {
    let (model, mut screen) = (model(), Screen::default());
    screen.selected = Some("vm1".to_owned());
    type_in(&mut screen, &model, &[KeyCode::Enter]);
    assert!(matches!(&screen.page, Page::Port { name, .. } if name == "vm1"));
    for size in SIZES {
        let text = drawn(&model, &mut screen, size);
        assert!(text.contains("vm1  up") && text.contains("private  18 frames"), "{text}");
    }
    let text = drawn(&model, &mut screen, (200, 60));
    for word in ["no free buffer", "mrg_rxbuf", "at most 2.00k/s", "12000 frames, 1200000 bytes"] {
        assert!(text.contains(word), "no {word}:\n{text}");
    }
    type_in(&mut screen, &model, &[KeyCode::End]);
    let text = drawn(&model, &mut screen, (40, 10));
    assert!(text.contains("segments") && !text.contains("vm1  up"), "scrolled:\n{text}");
    screen.selected = Some("vm3".to_owned());
    type_in(&mut screen, &model, &[KeyCode::Esc, KeyCode::Enter]);
    let text = drawn(&model, &mut screen, (80, 24));
    assert!(text.contains("last error  serving it failed"), "{text}");
    assert!(text.contains("no frame was lost here"), "{text}");
    screen.page = Page::Port { name: "gone".to_owned(), scrolled: 7 };
    assert!(drawn(&model, &mut screen, (80, 24)).contains("there is no port or link \"gone\""));
}

#[test]
fn whoever_waits_is_told_for_whom_and_keeps_what_was_known() {
    let (mut model, mut screen) = (Model::new(Instant::now()), Screen::default());
    for size in SIZES {
        assert!(drawn(&model, &mut screen, size).contains("waits for the switch since"));
    }
    model = self::model();
    model.lose(Instant::now(), "no switch answers at unix:/x".to_owned());
    assert!(matches!(model.connection, Connection::Waiting { .. }));
    let text = drawn(&model, &mut screen, (80, 24));
    assert!(text.contains("since 5 s: no switch answers at unix:/x"), "{text}");
    assert!(text.contains("vm2") && text.contains("rx_ring_full"), "{text}");
    model.take(sample(Instant::now(), 9));
    assert!(!drawn(&model, &mut screen, (80, 24)).contains("waits"));
}

#[test]
fn every_key_is_told_of_and_no_size_is_too_small() {
    let (model, mut screen) = (model(), Screen::default());
    type_in(&mut screen, &model, &[KeyCode::Char('?')]);
    let text = drawn(&model, &mut screen, (80, 24));
    for (key, does) in super::keys::KEYS {
        assert!(text.contains(key) && text.contains(does), "{key}: {does}\n{text}");
    }
    for page in [Page::List, Page::Port { name: "vm1".to_owned(), scrolled: 0 }, Page::Help] {
        for size in (1..30).flat_map(|width| (1..20).map(move |height| (width, height))) {
            let mut screen = Screen { page: page.clone(), ..Screen::default() };
            drawn(&model, &mut screen, size);
        }
    }
}
