//! `hairpin workers list|show|move`.

use std::str::FromStr;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use hairpin_proto::v1;
use serde_json::json;

use super::client::Client;
use super::table::{fields, table};
use super::{Format, json, words};

/// What to do with workers.
#[derive(Debug, Args)]
pub struct WorkersArgs {
    #[command(subcommand)]
    what: Option<WorkersCommand>,
}

impl WorkersArgs {
    /// Whether it changes nothing.
    #[must_use]
    pub fn only_shows(&self) -> bool {
        matches!(self.what, None | Some(WorkersCommand::List | WorkersCommand::Show { .. }))
    }
}

#[derive(Debug, Subcommand)]
enum WorkersCommand {
    /// All workers, and the receive queues that they serve
    List,
    /// One worker, and its receive queues
    Show {
        /// Its number
        #[arg(value_name = "WORKER")]
        index: u32,
    },
    /// Have another worker serve a receive queue, while frames flow; none is lost
    Move {
        /// The port or link, and which of its queues if it has several
        #[arg(value_name = "PORT[:QUEUE]")]
        queue: QueueName,
        /// The worker that is to serve it
        #[arg(long, value_name = "WORKER")]
        to: u32,
    },
}

/// A receive queue as the command line has it.
#[derive(Clone, Debug)]
struct QueueName {
    port: String,
    index: Option<u32>,
}

impl FromStr for QueueName {
    type Err = String;

    fn from_str(text: &str) -> Result<QueueName, String> {
        let Some((port, index)) = text.split_once(':') else {
            return Ok(QueueName { port: text.to_owned(), index: None });
        };
        let index = index.parse().map_err(|_| {
            format!("{index:?} is no queue's number; write {port}:0, or only {port} if it has one")
        })?;
        Ok(QueueName { port: port.to_owned(), index: Some(index) })
    }
}

/// `hairpin workers`.
pub fn workers(client: &mut Client, args: WorkersArgs, format: Format) -> anyhow::Result<String> {
    match args.what.unwrap_or(WorkersCommand::List) {
        WorkersCommand::List => {
            let all = client.list_workers(v1::ListWorkersRequest {})?.workers;
            Ok(match format {
                Format::Json => json::text(&json!({ "workers": json::each(&all, json::worker) })),
                Format::Table => workers_and_queues(&all),
            })
        }
        WorkersCommand::Show { index } => {
            let all = client.list_workers(v1::ListWorkersRequest {})?.workers;
            let found = all.iter().find(|worker| worker.index == index);
            let worker = found.ok_or_else(|| {
                let last = all.len().saturating_sub(1);
                anyhow!("there is no worker {index}; workers are 0 to {last}")
            })?;
            Ok(match format {
                Format::Json => json::text(&json::worker(worker)),
                Format::Table => one(worker),
            })
        }
        WorkersCommand::Move { queue, to } => {
            let QueueName { port, index } = queue;
            let request = v1::MoveQueueRequest { port: port.clone(), queue: index, worker: to };
            Ok(moved(&port, &client.move_queue(request)?, format))
        }
    }
}

fn moved(port: &str, response: &v1::MoveQueueResponse, format: Format) -> String {
    let &v1::MoveQueueResponse { queue, from, to } = response;
    match format {
        Format::Json => {
            json::text(&json!({ "port": port, "queue": queue, "from": from, "to": to }))
        }
        Format::Table if from == to => {
            format!("{port}:{queue} is served by worker {to} already; it stays there\n")
        }
        Format::Table => format!("{port}:{queue} moved from worker {from} to worker {to}\n"),
    }
}

fn one(worker: &v1::Worker) -> String {
    let about = fields(&[
        ("worker", worker.index.to_string()),
        ("cpu", cpu(worker)),
        ("poll", words::poll(worker.poll()).to_owned()),
        ("health", words::health(worker.health()).to_owned()),
        ("load", percent(worker.load)),
        ("breaths", worker.breaths.to_string()),
        ("sleeps", worker.sleeps.to_string()),
    ]);
    about + &behind(queues([worker]))
}

/// All workers as a table, and behind it all queues as another.
#[must_use]
pub fn workers_and_queues(workers: &[v1::Worker]) -> String {
    let row = |worker: &v1::Worker| {
        vec![
            worker.index.to_string(),
            cpu(worker),
            words::poll(worker.poll()).to_owned(),
            words::health(worker.health()).to_owned(),
            percent(worker.load),
            worker.breaths.to_string(),
            worker.sleeps.to_string(),
        ]
    };
    let titles = ["#WORKER", "#CPU", "POLL", "HEALTH", "#LOAD", "#BREATHS", "#SLEEPS"];
    table(&titles, workers.iter().map(row)) + &behind(queues(workers))
}

/// A second table, if there is one.
fn behind(table: Option<String>) -> String {
    table.map(|table| format!("\n{table}")).unwrap_or_default()
}

fn queues<'w>(workers: impl IntoIterator<Item = &'w v1::Worker>) -> Option<String> {
    let row = |worker: &v1::Worker, queue: &v1::Queue| {
        vec![
            worker.index.to_string(),
            format!("{}:{}", queue.port, queue.index),
            words::queue_state(queue.state()).to_owned(),
            percent(queue.load),
            format!("{:.0}", queue.frames_per_second),
            format!("{:.1}", queue.bytes_per_second * 8.0 / 1e6),
            queue.frames.to_string(),
        ]
    };
    let each = workers.into_iter().flat_map(|worker| {
        worker.queues.iter().map(move |queue| row(worker, queue)).collect::<Vec<_>>()
    });
    let rows: Vec<_> = each.collect();
    let titles = ["#WORKER", "QUEUE", "STATE", "#LOAD", "#FRAMES/S", "#MBIT/S", "#FRAMES"];
    (!rows.is_empty()).then(|| table(&titles, rows))
}

fn cpu(worker: &v1::Worker) -> String {
    worker.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_named_by_port_and_number() {
        let read = |text: &str| text.parse::<QueueName>().map(|name| (name.port, name.index));
        assert_eq!(read("vm1"), Ok(("vm1".to_owned(), None)));
        assert_eq!(read("vm1:12"), Ok(("vm1".to_owned(), Some(12))));
        assert!(read("vm1:").unwrap_err().contains("vm1:0"));
        assert!(read("vm1:-1").is_err());
    }

    #[test]
    fn the_busiest_worker_fits_into_80_columns() {
        let queue = v1::Queue {
            port: "a-port-of-15-ch".to_owned(),
            index: 255,
            frames: u64::MAX / 1000,
            frames_per_second: 148_000_000.0,
            bytes_per_second: 50e9,
            load: 1.0,
            ..v1::Queue::default()
        };
        let worker = v1::Worker {
            index: 63,
            cpu: Some(127),
            breaths: u64::MAX / 1000,
            sleeps: u64::MAX / 1_000_000,
            load: 1.0,
            queues: vec![queue],
            ..v1::Worker::default()
        };
        let text = workers_and_queues(&[worker]);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.lines().count(), 5, "no line is folded:\n{text}");
    }
}
