//! The calls of the API. Each takes the engine's lock for as long as it looks or
//! changes, and no longer.

use std::collections::BTreeSet;
use std::sync::Arc;

use hairpin_proto::v1::{self, switch_server};
use tonic::{Request, Response, Status};

use super::refusal::{invalid, not_moved, refusal, shortened};
use super::turns::Turns;
use super::watch::{Responses, Seats};
use super::{apply, capture, peer, views, wanted, watch, why};
use crate::config::nearest::hint;
use crate::switch::queues::Moved;
use crate::switch::view::{LearnedAddress, View};
use crate::switch::{Applied, Order, Release, Switch};

/// Names that one may ask for.
const NAMES_MAX: usize = 8192;
/// Addresses per page unless asked otherwise, and the most.
const PAGE: (usize, usize) = (1000, 10_000);

/// The service of a switch.
#[derive(Debug)]
pub struct Service {
    switch: Switch,
    turns: Turns,
    seats: Seats,
}

impl Service {
    /// Serves this switch.
    #[must_use]
    pub fn new(switch: Switch) -> Service {
        Service { switch, turns: Turns::default(), seats: Seats::default() }
    }

    /// Answers a request, once it is its caller's turn.
    async fn answer<R: Send + 'static, T: Send + 'static>(
        &self,
        request: Request<R>,
        answer: impl FnOnce(&Switch, R) -> Result<T, Status> + Send + 'static,
    ) -> Reply<T> {
        let caller = peer::caller(&request)?;
        let (switch, request) = (self.switch.clone(), request.into_inner());
        let answer = self.turns.work(caller, move || answer(&switch, request));
        answer.await.map(Response::new)
    }

    /// Answers likewise with what there is.
    async fn look<R: Sync, T: Send + 'static>(
        &self,
        request: &Request<R>,
        look: impl FnOnce(&View) -> Result<T, Status> + Send + 'static,
    ) -> Reply<T> {
        let (caller, switch) = (peer::caller(request)?, self.switch.clone());
        let answer = self.turns.work(caller, move || look(&switch.view()));
        answer.await.map(Response::new)
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl switch_server::Switch for Service {
    type CaptureStream = capture::Stream;
    type WatchStream = Responses<v1::WatchResponse>;
    type WatchStatsStream = Responses<v1::StatsResponse>;

    async fn show(&self, request: Request<v1::ShowRequest>) -> Reply<v1::ShowResponse> {
        self.look(&request, |view| Ok(views::show(view))).await
    }

    async fn list_links(
        &self,
        request: Request<v1::ListLinksRequest>,
    ) -> Reply<v1::ListLinksResponse> {
        let list = |view: &View| Ok(v1::ListLinksResponse { links: views::links(view) });
        self.look(&request, list).await
    }

    async fn list_channels(
        &self,
        request: Request<v1::ListChannelsRequest>,
    ) -> Reply<v1::ListChannelsResponse> {
        let list = |view: &View| Ok(v1::ListChannelsResponse { channels: views::channels(view) });
        self.look(&request, list).await
    }

    async fn list_bridges(
        &self,
        request: Request<v1::ListBridgesRequest>,
    ) -> Reply<v1::ListBridgesResponse> {
        let list = |view: &View| Ok(v1::ListBridgesResponse { bridges: views::bridges(view) });
        self.look(&request, list).await
    }

    async fn list_ports(
        &self,
        request: Request<v1::ListPortsRequest>,
    ) -> Reply<v1::ListPortsResponse> {
        let list = |view: &View| Ok(v1::ListPortsResponse { ports: views::ports(view) });
        self.look(&request, list).await
    }

    async fn get_port(&self, request: Request<v1::GetPortRequest>) -> Reply<v1::GetPortResponse> {
        let name = request.get_ref().name.clone();
        let get = move |view: &View| Ok(v1::GetPortResponse { port: Some(port(view, &name)?) });
        self.look(&request, get).await
    }

    async fn set_port(&self, request: Request<v1::SetPortRequest>) -> Reply<v1::SetPortResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| set_port(switch, &request, by)).await
    }

    async fn release_port(
        &self,
        request: Request<v1::ReleasePortRequest>,
    ) -> Reply<v1::ReleasePortResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| release_port(switch, &request.name, &by)).await
    }

    async fn stats(&self, request: Request<v1::StatsRequest>) -> Reply<v1::StatsResponse> {
        self.answer(request, |switch, request| stats(switch, &request.names)).await
    }

    async fn drops(&self, request: Request<v1::DropsRequest>) -> Reply<v1::DropsResponse> {
        let drops =
            |switch: &Switch, _| Ok(v1::DropsResponse { reasons: views::drops(&switch.totals()) });
        self.answer(request, drops).await
    }

    async fn fdb(&self, request: Request<v1::FdbRequest>) -> Reply<v1::FdbResponse> {
        self.answer(request, |switch, request| page(switch, &request)).await
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Reply<v1::ListWorkersResponse> {
        let list = |view: &View| Ok(v1::ListWorkersResponse { workers: views::workers(view) });
        self.look(&request, list).await
    }

    async fn move_queue(
        &self,
        request: Request<v1::MoveQueueRequest>,
    ) -> Reply<v1::MoveQueueResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| move_queue(switch, &request, &by)).await
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Reply<v1::ApplyResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| apply::apply(switch, request, by)).await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Reply<v1::GetResponse> {
        self.look(&request, |view| Ok(apply::get(view))).await
    }

    async fn edit(&self, request: Request<v1::EditRequest>) -> Reply<v1::ApplyResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| apply::edit(switch, request, by)).await
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Reply<v1::ApplyResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| apply::roll_back(switch, request, by)).await
    }

    async fn list_revisions(
        &self,
        request: Request<v1::ListRevisionsRequest>,
    ) -> Reply<v1::ListRevisionsResponse> {
        self.answer(request, |switch, _| Ok(apply::revisions(switch))).await
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Reply<v1::FlushResponse> {
        let by = peer::writer(&request)?;
        self.answer(request, move |switch, request| flush(switch, &request.port, &by)).await
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        let seat = self.seats.take(peer::caller(&request)?.right)?;
        self.answer(request, move |switch, request| watch::events(switch, seat, request)).await
    }

    async fn watch_stats(
        &self,
        request: Request<v1::WatchStatsRequest>,
    ) -> Reply<Self::WatchStatsStream> {
        let caller = peer::caller(&request)?;
        let seat = self.seats.take(caller.right)?;
        let pace = watch::Pace { turns: self.turns.clone(), caller };
        self.answer(request, move |switch, request| watch_stats(switch, seat, pace, request)).await
    }

    async fn capture(&self, request: Request<v1::CaptureRequest>) -> Reply<capture::Stream> {
        peer::writer(&request)?;
        self.answer(request, capture::begin).await
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Reply<v1::WhyResponse> {
        self.answer(request, why::why).await
    }
}

fn set_port(
    switch: &Switch,
    request: &v1::SetPortRequest,
    by: String,
) -> Result<v1::SetPortResponse, Status> {
    let order = Order { base: request.base_revision, ..Order::by(by) };
    let name = &request.name;
    let running = switch.view().written;
    let change = wanted::change(request, running.config()).map_err(|it| invalid(&it))?;
    let Applied { revision, diff } = switch.set_port_by(name, change, &order).map_err(refusal)?;
    tracing::info!(revision, by = order.origin, %diff, "set port");
    let port = port(&switch.view(), name)?;
    Ok(v1::SetPortResponse { port: Some(port), revision })
}

fn release_port(switch: &Switch, name: &str, by: &str) -> Result<v1::ReleasePortResponse, Status> {
    let release = switch.release(name).map_err(refusal)?;
    tracing::info!(port = name, by, ?release, "release port");
    let view = switch.view();
    let link = views::links(&view).into_iter().find(|link| link.name == name);
    let released = match link {
        Some(link) => v1::release_port_response::Released::Link(link),
        None => v1::release_port_response::Released::Port(port(&view, name)?),
    };
    let was_quarantined = release == Release::Released;
    Ok(v1::ReleasePortResponse { released: Some(released), was_quarantined })
}

fn move_queue(
    switch: &Switch,
    request: &v1::MoveQueueRequest,
    by: &str,
) -> Result<v1::MoveQueueResponse, Status> {
    let v1::MoveQueueRequest { port, queue, worker } = request;
    let number = |queue: u32| {
        let port = shortened(port);
        let said = format!("{port}: queue {queue}: queues have numbers of 0 to 65535");
        u16::try_from(queue).map_err(|_| Status::invalid_argument(said))
    };
    let queue = queue.map(number).transpose()?;
    let moved = switch.move_queue(port, queue, *worker as usize);
    let Moved { queue, from, to } = moved.map_err(not_moved)?;
    tracing::info!(port, by, queue, from, to, "move queue");
    Ok(v1::MoveQueueResponse { queue: queue.into(), from: from as u32, to: to as u32 })
}

fn flush(switch: &Switch, name: &str, by: &str) -> Result<v1::FlushResponse, Status> {
    let port = Some(name).filter(|name| !name.is_empty());
    switch.flush(port).map_err(refusal)?;
    tracing::info!(port, by, "flush");
    Ok(v1::FlushResponse {})
}

fn watch_stats(
    switch: &Switch,
    seat: watch::Seat,
    pace: watch::Pace,
    request: v1::WatchStatsRequest,
) -> Result<Responses<v1::StatsResponse>, Status> {
    let v1::WatchStatsRequest { names, interval_ms } = request;
    // Who is named has to be there at first; later it may go.
    stats(switch, &names)?;
    let (switch, names) = (switch.clone(), Arc::new(BTreeSet::from_iter(names)));
    let read = move || {
        let mut all = stats(&switch, &[])?;
        all.ports.retain(|name, _| names.is_empty() || names.contains(name));
        Ok(all)
    };
    watch::again(seat, pace, interval_ms, read)
}

/// Counters of these ports and links, or of all.
fn stats(switch: &Switch, names: &[String]) -> Result<v1::StatsResponse, Status> {
    if names.len() > NAMES_MAX {
        let said = format!("names: {} of them; name {NAMES_MAX} at most", names.len());
        return Err(Status::invalid_argument(said));
    }
    let totals = switch.totals();
    let names: BTreeSet<&String> = names.iter().collect();
    if let Some(unknown) = names.iter().find(|name| !totals.contains_key(**name)) {
        let near = hint(unknown, totals.keys().map(String::as_str));
        let unknown = shortened(unknown);
        let said = format!("there is no port or link with a device {unknown:?}{near}");
        return Err(Status::not_found(said));
    }
    let wanted = totals.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
    let device_drops = switch.device_drops();
    let ports = wanted.map(|(name, totals)| {
        let lost = device_drops.get(name).copied().unwrap_or(0);
        (name.clone(), views::counters(totals, lost))
    });
    Ok(v1::StatsResponse { ports: ports.collect() })
}

fn port(view: &View, name: &str) -> Result<v1::Port, Status> {
    let ports = view.desired.ports();
    let found = ports.iter().find(|port| port.name == name);
    found.map(|port| views::port(view, port)).ok_or_else(|| {
        let near = hint(name, ports.iter().map(|port| &*port.name));
        Status::not_found(format!("there is no port {:?}{near}", shortened(name)))
    })
}

/// Where a page begins: registered addresses come first, then the table.
enum Position {
    Registered(usize),
    Learned(usize),
}

impl Position {
    fn read(token: &str) -> Option<Position> {
        match token.split_once('-') {
            None if token.is_empty() => Some(Position::Registered(0)),
            Some(("r", at)) => at.parse().ok().map(Position::Registered),
            Some(("l", at)) => at.parse().ok().map(Position::Learned),
            _ => None,
        }
    }

    fn token(&self) -> String {
        match self {
            Position::Registered(at) => format!("r-{at}"),
            Position::Learned(at) => format!("l-{at}"),
        }
    }
}

fn page(switch: &Switch, request: &v1::FdbRequest) -> Result<v1::FdbResponse, Status> {
    let size = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
        0 => PAGE.0,
        size => size.min(PAGE.1),
    };
    let token = &request.page_token;
    let position = Position::read(token).ok_or_else(|| {
        let remedy = "send the next_page_token of the page before, or none";
        let token = shortened(token);
        Status::invalid_argument(format!("page_token: {token:?} is no token; {remedy}"))
    })?;
    let wanted = |port: &str| request.port.is_empty() || request.port == port;
    let (addresses, next) = match position {
        Position::Registered(at) => {
            let all = views::registered(&switch.view());
            let mut rest = all.into_iter().filter(|address| wanted(&address.port)).skip(at);
            let addresses: Vec<v1::Address> = rest.by_ref().take(size).collect();
            let more = rest.next().is_some();
            let next = if more { Position::Registered(at + size) } else { Position::Learned(0) };
            (addresses, Some(next))
        }
        Position::Learned(at) => {
            let (learned, next) = switch.learned(at, size);
            let mine = learned.into_iter().filter(|address| wanted(&address.port));
            (mine.map(learned_address).collect(), next.map(Position::Learned))
        }
    };
    let next_page_token = next.map(|next| next.token()).unwrap_or_default();
    Ok(v1::FdbResponse { addresses, next_page_token })
}

fn learned_address(address: LearnedAddress) -> v1::Address {
    let idle_ms = u64::try_from(address.idle.as_millis()).unwrap_or(u64::MAX);
    v1::Address {
        mac: address.mac.to_string(),
        vid: Some(address.vid.get().into()),
        port: address.port,
        domain: address.domain,
        origin: Some(v1::address::Origin::Learned(v1::Learned { idle_ms })),
    }
}
