//! The report's page in a browser: its plots are there, and all of it can be read.

mod browser;

use std::path::Path;

use browser::Browser;
use hairpin_bench::suite::report::{example, page, run::Run};
use serde_json::Value;

/// Pixels of the smallest text.
const TEXT_MIN: f64 = 11.0;
/// Contrast of text, and of lines, to what is behind them (WCAG 2.1, 1.4.3 and 1.4.11).
const TEXT_CONTRAST_MIN: f64 = 4.5;
const LINE_CONTRAST_MIN: f64 = 3.0;

/// Curves of latency and loss, throughput by size, bars of throughput and of latency.
const PLOTS: usize = 5;

#[track_caller]
fn check(seen: &Value, what: &str) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{what}: {value}"));
    assert!(number(&seen["page"]) <= number(&seen["width"]), "{what}: wider than the window");
    let plots = seen["plots"].as_array().expect("a list");
    assert_eq!(plots.len(), PLOTS, "{what}");
    for plot in plots {
        let large = number(&plot["width"]) >= 300.0 && number(&plot["height"]) >= 100.0;
        assert!(large && number(&plot["marks"]) >= 2.0, "{what}: {plot}");
    }
    let smallest = &seen["smallest"];
    assert!(number(&smallest["size"]) >= TEXT_MIN, "{what}: small: {smallest}");
    let faintest = &seen["faintest"];
    assert!(number(&faintest["contrast"]) >= TEXT_CONTRAST_MIN, "{what}: faint: {faintest}");
    assert!(number(&seen["faintestLine"]) >= LINE_CONTRAST_MIN, "{what}: faint lines: {seen}");
    assert_eq!(seen["clashes"], serde_json::json!([]), "{what}");
    assert_eq!(seen["fetched"], serde_json::json!([]), "{what}: from elsewhere");
}

/// For people who want to look, too: `HAIRPIN_PICTURES` is where pictures go, as base64.
fn keep_picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("HAIRPIN_PICTURES") {
        let file = Path::new(&folder).join(format!("{name}.png.base64"));
        std::fs::write(file, browser.picture()).expect("a picture is kept");
    }
}

#[test]
fn the_page_is_readable_in_a_browser() {
    if !browser::is_there("the_page_is_readable_in_a_browser") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, page::html(&Run::parse(example::TEXT).unwrap())).unwrap();
    let browser = Browser::start();
    for (width, colours, medium) in [
        (400, "light", "screen"),
        (400, "dark", "screen"),
        (1600, "light", "screen"),
        (1600, "dark", "screen"),
        (1000, "dark", "print"),
    ] {
        let what = format!("{width} pixels, {colours}, {medium}");
        browser.show_as(width, colours, medium);
        browser.open(&format!("file://{}", file.display()));
        let seen = browser.run(include_str!("page.js"));
        keep_picture(&browser, &format!("{width}-{colours}-{medium}"));
        assert_eq!(seen["width"], width, "{what}");
        check(&seen, &what);
        assert_eq!(browser.console(), Vec::<String>::new(), "{what}");
    }
}

/// Long names, large numbers, and as many peers as there are.
fn large() -> String {
    let mut run = Run::parse(example::TEXT).expect("a run");
    let more = ["linux-bridge-with-netfilter", "macvtap-bridge-mode", "dpdk-wire"];
    for (number, name) in (1..).zip(more) {
        for mut sample in run.samples.clone().into_iter().filter(|one| one.peer == "hairpin") {
            sample.peer = name.to_owned();
            sample.median *= f64::from(number);
            run.samples.push(sample);
        }
        for mut curve in run.curves.clone().into_iter().filter(|one| one.peer == "hairpin") {
            curve.peer = name.to_owned();
            curve.points.iter_mut().for_each(|[x, _]| *x *= f64::from(number) + 0.5);
            run.curves.push(curve);
        }
    }
    for sample in &mut run.samples {
        let factor = 1_234_567.0;
        sample.parameters.insert("address pattern".to_owned(), sample.peer.clone());
        sample.median *= factor;
        sample.interval = sample.interval.map(|end| end * factor);
    }
    page::html(&run)
}

#[test]
fn a_large_page_is_readable_too() {
    if !browser::is_there("a_large_page_is_readable_too") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, large()).unwrap();
    let browser = Browser::start();
    for width in [400, 1600] {
        browser.show_as(width, "light", "screen");
        browser.open(&format!("file://{}", file.display()));
        keep_picture(&browser, &format!("{width}-large"));
        check(&browser.run(include_str!("page.js")), &format!("{width} pixels"));
    }
}

/// The page is the example's with a style that makes it bad: the checks must notice.
#[test]
fn a_bad_page_is_noticed() {
    if !browser::is_there("a_bad_page_is_noticed") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let good = page::html(&Run::parse(example::TEXT).unwrap());
    let browser = Browser::start();
    browser.show_as(400, "light", "screen");
    for (style, said) in [
        ("", ""),
        ("h1 { width: 500px }", "wider than the window"),
        ("svg text { font-size: 7px }", "small"),
        (".quiet { color: #999999 }", "faint"),
        (":root { --s0: #eeeeee }", "faint lines"),
        ("svg text { font-size: 22px }", "lies on"),
        ("figure { display: none }", "width"),
    ] {
        std::fs::write(&file, good.replace("</style>", &format!("{style}</style>"))).unwrap();
        browser.open(&format!("file://{}", file.display()));
        let seen = browser.run(include_str!("page.js"));
        let outcome = std::panic::catch_unwind(|| check(&seen, "bad"));
        let message = outcome.err().map(|panic| *panic.downcast::<String>().unwrap());
        assert!(message.as_deref().unwrap_or_default().contains(said), "{style}: {message:?}");
        assert_eq!(message.is_none(), said.is_empty(), "{style}: {message:?}");
    }
    std::fs::write(&file, format!("{good}<script>console.error('a')</script>")).unwrap();
    browser.open(&format!("file://{}", file.display()));
    assert_eq!(browser.console().len(), 1);
}
