//! `hairpin top`: ports, drops and workers, live.
//!
//! * [`source`] — looks at the switch. [`model`], [`history`] — rates out of them.
//! * [`screen`] — what of it is shown. [`keys`] — what keys do.
//! * [`draw`] — the screen as it is drawn.

pub mod draw;
pub mod history;
pub mod keys;
pub mod model;
pub mod screen;
pub mod source;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Format, UsageError};
use crate::api::address::ApiAddress;
use keys::Outcome;
use model::Model;
use screen::Screen;
use source::{Look, Source};

/// How long a key is waited for before it is looked whether something came.
const TURN: Duration = Duration::from_millis(100);

/// How to look.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|it| (0.1..=3600.0).contains(it));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write a number of seconds from 0.1 to 3600".to_owned())
}

/// `hairpin top`.
///
/// # Errors
/// There is no terminal to draw on.
pub fn top(address: ApiAddress, args: &TopArgs, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        let said = "top is for people; for programs there are `hairpin stats --json`, `show` and \
                    `workers`";
        return Err(UsageError(said.to_owned()).into());
    }
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        let said = "top needs a terminal to draw on and to read keys from; `hairpin stats`, `drops` \
                    and `workers` print once";
        return Err(UsageError(said.to_owned()).into());
    }
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end)).context("no signals")?;
    }
    let source = Source::start(address, args.interval).context("no thread could be made")?;
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let shown = show(&mut terminal, &source, &told_to_end);
    ratatui::try_restore().context("the terminal could not be put back; see reset(1)")?;
    shown.context("the terminal cannot be drawn on")
}

/// Draws what comes until a key or a signal ends it.
fn show(
    terminal: &mut DefaultTerminal,
    source: &Source,
    told_to_end: &AtomicBool,
) -> io::Result<()> {
    let (mut model, mut screen) = (Model::new(Instant::now()), Screen::default());
    while !told_to_end.load(Ordering::Relaxed) {
        for look in source.news() {
            match look {
                Look::Seen(sample) => model.take(*sample),
                Look::Lost(why) => model.lose(Instant::now(), why),
            }
        }
        terminal.draw(|frame| draw::draw(frame, &model, &mut screen, Instant::now()))?;
        if !event::poll(TURN)? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && keys::press(&mut screen, &model, key) == Outcome::Quit
        {
            return Ok(());
        }
    }
    Ok(())
}
