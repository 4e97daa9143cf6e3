//! The log: a line each, to standard error, with fields.
//!
//! What a guest or its VMM does is logged, so each port, link, interface and socket has a budget
//! of lines: what goes beyond it is left out, and counted in the next line that is not.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::budget::{Budget, Rate};

/// What says which lines are written, as `tracing_subscriber::EnvFilter` reads it.
const VARIABLE: &str = "HAIRPIN_LOG";
/// Lines about one object.
const LINES: Rate = Rate { burst: 20, refill: Duration::from_secs(5) };
/// Fields that name what a guest can have lines written about.
const NAMES: [&str; 4] = ["port", "link", "interface", "socket"];
/// Objects whose budgets are kept before those are looked for that said nothing of late.
const KEPT: usize = 256;

/// Has lines written to standard error: `info` and worse, or as `HAIRPIN_LOG` says.
pub fn to_stderr() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(Fair::default())
        .try_init();
    if let Err(error) = started {
        // A program that embeds the daemon has a logger of its own.
        tracing::debug!(%error, "logging was set up before");
    }
}

/// Lines as they come, each object within its budget.
struct Fair {
    format: Format<Full>,
    budgets: Mutex<Budgets>,
}

impl Default for Fair {
    fn default() -> Fair {
        let format = tracing_subscriber::fmt::format().with_target(false);
        Fair { format, budgets: Mutex::default() }
    }
}

impl<S, N> FormatEvent<S, N> for Fair
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut name = Name(None);
        event.record(&mut name);
        if let Some(name) = name.0 {
            let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
            match budgets.take(&name, Instant::now()) {
                Line::LeftOut => return Ok(()),
                Line::Written { left_out: 0 } => {}
                Line::Written { left_out } => {
                    writeln!(writer, "({left_out} lines about {name} are left out here)")?;
                }
            }
        }
        self.format.format_event(context, writer, event)
    }
}

/// What an event is about, if that has a budget.
struct Name(Option<String>);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if NAMES.contains(&field.name()) {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if NAMES.contains(&field.name()) {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Written {
        /// Lines about the same object since the last one that was written.
        left_out: u64,
    },
    LeftOut,
}

/// By object: what it has left, and how many lines were left out.
#[derive(Default)]
struct Budgets(BTreeMap<String, (Budget, u64)>);

impl Budgets {
    fn take(&mut self, name: &str, now: Instant) -> Line {
        if !self.0.contains_key(name) {
            if self.0.len() >= KEPT {
                self.0.retain(|_, (budget, _)| !budget.is_full(now));
            }
            self.0.insert(name.to_owned(), (Budget::full(LINES, now), 0));
        }
        let Some((budget, left_out)) = self.0.get_mut(name) else { return Line::LeftOut };
        if budget.take(now) {
            Line::Written { left_out: std::mem::take(left_out) }
        } else {
            *left_out += 1;
            Line::LeftOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_too_much_is_cut_short_and_others_are_not() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        let written = (0..100).filter(|_| budgets.take("vm1", now) != Line::LeftOut).count();
        assert_eq!(written, 20);
        assert_eq!(budgets.take("vm2", now), Line::Written { left_out: 0 });
        let later = now + LINES.refill;
        assert_eq!(budgets.take("vm1", later), Line::Written { left_out: 80 });
        assert_eq!(budgets.take("vm1", later), Line::LeftOut);
    }

    #[test]
    fn who_says_nothing_is_forgotten() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for number in 0..KEPT {
            budgets.take(&format!("vm{number}"), now);
        }
        budgets.take("one more", now + 100 * LINES.refill);
        assert_eq!(budgets.0.len(), 1);
    }
}
