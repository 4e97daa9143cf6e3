//! `hairpin top` itself, on a pseudo-terminal, in front of a daemon.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use daemon::{Daemon, HAIRPIN, LOCAL, Place, eventually, stderr};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A program on a terminal of its own.
struct Session {
    child: Child,
    keys: File,
    /// The program's end, kept open so that its settings can be read.
    terminal: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Session {
    fn start(place: &Place, words: &[&str]) -> Session {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        assert!(echoes(&terminal));
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = Command::new(HAIRPIN)
            .env("HAIRPIN_API", format!("unix:{}", place.socket().display()))
            .env("TERM", "xterm-256color")
            .args(words)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let mut near = File::from(near);
        let keys = near.try_clone().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = near.read(&mut bytes) {
                collected.lock().unwrap().extend(&bytes[..length]);
            }
        });
        Session { child, keys, terminal, written }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// What is to be seen on the screen.
    fn shown(&self) -> String {
        replay(&self.written())
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(text, || self.shown().contains(text));
    }

    /// Waits for its end; the terminal has to be as it was.
    fn end(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(echoes(&self.terminal), "the terminal echoes again");
        eventually("the screen that was before", || self.written().contains("\x1b[?1049l"));
        eventually("the cursor", || {
            let written = self.written();
            written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")
        });
        code
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Either it ended already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn echoes(terminal: &File) -> bool {
    tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
}

/// A screen after all that was written: of what terminals understand, only what moves the
/// cursor and what clears.
fn replay(written: &str) -> String {
    let (rows, columns) = (usize::from(ROWS), usize::from(COLUMNS));
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut row, mut column) = (0, 0);
    let mut rest = written.chars();
    while let Some(character) = rest.next() {
        match character {
            '\x1b' => {
                if rest.next() != Some('[') {
                    continue;
                }
                let mut parameters = String::new();
                let last = rest.find(|it| {
                    let is_last = ('@'..='~').contains(it);
                    if !is_last {
                        parameters.push(*it);
                    }
                    is_last
                });
                match last {
                    Some('H') => {
                        let (line, place) = parameters.split_once(';').unwrap_or(("1", "1"));
                        row = line.parse::<usize>().unwrap() - 1;
                        column = place.parse::<usize>().unwrap() - 1;
                    }
                    Some('J') => cells = vec![vec![' '; columns]; rows],
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row = (row + 1).min(rows - 1),
            _ => {
                if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                    *cell = character;
                }
                column += 1;
            }
        }
    }
    let lines = cells.into_iter().map(|line| line.into_iter().collect::<String>());
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn top_shows_a_switch_waits_for_it_and_leaves_the_terminal_as_it_was() {
    let place = Place::new();
    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let mut session = Session::start(&place, &["top", "--interval", "0.2"]);
    session.shows("hairpin t  up ");
    session.shows("up0*");
    session.shows("FRAMES/BREATH");
    session.press("/nobody");
    session.shows("no port or link has \"nobody\"");
    session.press("\x1b");
    session.shows("up0*");
    session.press("\r");
    session.shows("no frame was lost here");
    session.press("?");
    session.shows("PgUp PgDn");
    session.press("\x1b");
    session.shows("sorted by name");

    assert_eq!(daemon.end(Signal::TERM), Some(0));
    session.shows("waits for the switch since");
    session.shows("up0*");
    let daemon = Daemon::start(place.daemon_command());
    eventually("the switch again", || !session.shown().contains("waits"));
    session.shows("up0*");
    session.press("q");
    assert_eq!(session.end(), Some(0));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn a_signal_ends_top_and_leaves_the_terminal_as_it_was() {
    let place = Place::new();
    let session = Session::start(&place, &["top"]);
    session.shows("waits for the switch since");
    kill_process(Pid::from_child(&session.child), Signal::TERM).unwrap();
    assert_eq!(session.end(), Some(0));
}

#[test]
fn top_needs_a_terminal() {
    let place = Place::new();
    let output = place.client("top");
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.starts_with("top needs a terminal") && said.contains("`hairpin stats`"), "{said}");
    let output = place.client("top --json");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("hairpin stats --json"), "{}", stderr(&output));
    for interval in ["0", "nan", "-1", "4000"] {
        let output = place.client(&format!("top --interval={interval}"));
        assert_eq!(output.status.code(), Some(2), "{interval}");
        assert!(stderr(&output).contains("0.1 to 3600"), "{}", stderr(&output));
    }
}
