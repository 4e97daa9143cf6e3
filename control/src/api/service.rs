//! The calls of the API. Each takes the engine's lock for as long as it looks or
//! changes, and no longer.

use std::collections::BTreeSet;

use hairpin_proto::v1::{self, switch_server};
use tonic::{Request, Response, Status};

use super::refusal::{invalid, not_moved, refusal, shortened};
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
    seats: Seats,
}

impl Service {
    /// Serves this switch.
    #[must_use]
    pub fn new(switch: Switch) -> Service {
        Service { switch, seats: Seats::default() }
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl switch_server::Switch for Service {
    type CaptureStream = capture::Stream;
    type WatchStream = Responses<v1::WatchResponse>;
    type WatchStatsStream = Responses<v1::StatsResponse>;

    async fn show(&self, _: Request<v1::ShowRequest>) -> Reply<v1::ShowResponse> {
        Ok(Response::new(views::show(&self.switch.view())))
    }

    async fn list_links(&self, _: Request<v1::ListLinksRequest>) -> Reply<v1::ListLinksResponse> {
        let links = views::links(&self.switch.view());
        Ok(Response::new(v1::ListLinksResponse { links }))
    }

    async fn list_channels(
        &self,
        _: Request<v1::ListChannelsRequest>,
    ) -> Reply<v1::ListChannelsResponse> {
        let channels = views::channels(&self.switch.view());
        Ok(Response::new(v1::ListChannelsResponse { channels }))
    }

    async fn list_bridges(
        &self,
        _: Request<v1::ListBridgesRequest>,
    ) -> Reply<v1::ListBridgesResponse> {
        let bridges = views::bridges(&self.switch.view());
        Ok(Response::new(v1::ListBridgesResponse { bridges }))
    }

    async fn list_ports(&self, _: Request<v1::ListPortsRequest>) -> Reply<v1::ListPortsResponse> {
        let ports = views::ports(&self.switch.view());
        Ok(Response::new(v1::ListPortsResponse { ports }))
    }

    async fn get_port(&self, request: Request<v1::GetPortRequest>) -> Reply<v1::GetPortResponse> {
        let port = port(&self.switch.view(), &request.into_inner().name)?;
        Ok(Response::new(v1::GetPortResponse { port: Some(port) }))
    }

    async fn set_port(&self, request: Request<v1::SetPortRequest>) -> Reply<v1::SetPortResponse> {
        let order = Order::by(peer::writer(&request)?);
        let request = request.into_inner();
        let order = Order { base: request.base_revision, ..order };
        let name = request.name.clone();
        let running = self.switch.view().written;
        let change = wanted::change(&request, running.config()).map_err(|it| invalid(&it))?;
        let applied = self.switch.set_port_by(&name, change, &order).map_err(refusal)?;
        let Applied { revision, diff } = applied;
        tracing::info!(revision, by = order.origin, %diff, "set port");
        let port = port(&self.switch.view(), &name)?;
        Ok(Response::new(v1::SetPortResponse { port: Some(port), revision }))
    }

    async fn release_port(
        &self,
        request: Request<v1::ReleasePortRequest>,
    ) -> Reply<v1::ReleasePortResponse> {
        let by = peer::writer(&request)?;
        let name = request.into_inner().name;
        let release = self.switch.release(&name).map_err(refusal)?;
        tracing::info!(port = name, by, ?release, "release port");
        let view = self.switch.view();
        let link = views::links(&view).into_iter().find(|link| link.name == name);
        let released = match link {
            Some(link) => v1::release_port_response::Released::Link(link),
            None => v1::release_port_response::Released::Port(port(&view, &name)?),
        };
        let was_quarantined = release == Release::Released;
        Ok(Response::new(v1::ReleasePortResponse { released: Some(released), was_quarantined }))
    }

    async fn stats(&self, request: Request<v1::StatsRequest>) -> Reply<v1::StatsResponse> {
        stats(&self.switch, &request.into_inner().names).map(Response::new)
    }

    async fn drops(&self, _: Request<v1::DropsRequest>) -> Reply<v1::DropsResponse> {
        let reasons = views::drops(&self.switch.totals());
        Ok(Response::new(v1::DropsResponse { reasons }))
    }

    async fn fdb(&self, request: Request<v1::FdbRequest>) -> Reply<v1::FdbResponse> {
        page(&self.switch, &request.into_inner()).map(Response::new)
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Reply<v1::ListWorkersResponse> {
        let workers = views::workers(&self.switch.view());
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn move_queue(
        &self,
        request: Request<v1::MoveQueueRequest>,
    ) -> Reply<v1::MoveQueueResponse> {
        let by = peer::writer(&request)?;
        let v1::MoveQueueRequest { port, queue, worker } = request.into_inner();
        let number = |queue: u32| {
            let port = shortened(&port);
            let said = format!("{port}: queue {queue}: queues have numbers of 0 to 65535");
            u16::try_from(queue).map_err(|_| Status::invalid_argument(said))
        };
        let queue = queue.map(number).transpose()?;
        let (switch, name) = (self.switch.clone(), port.clone());
        // On a thread of its own: it waits for a worker, others go on being answered.
        let moving =
            tokio::task::spawn_blocking(move || switch.move_queue(&name, queue, worker as usize));
        let ending = |_| Status::unavailable("the switch is ending");
        let Moved { queue, from, to } = moving.await.map_err(ending)?.map_err(not_moved)?;
        tracing::info!(port, by, queue, from, to, "move queue");
        let (queue, from, to) = (queue.into(), from as u32, to as u32);
        Ok(Response::new(v1::MoveQueueResponse { queue, from, to }))
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Reply<v1::ApplyResponse> {
        let by = peer::writer(&request)?;
        apply::apply(&self.switch, request.into_inner(), by).map(Response::new)
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Reply<v1::GetResponse> {
        Ok(Response::new(apply::get(&self.switch)))
    }

    async fn edit(&self, request: Request<v1::EditRequest>) -> Reply<v1::ApplyResponse> {
        let by = peer::writer(&request)?;
        apply::edit(&self.switch, request.into_inner(), by).map(Response::new)
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Reply<v1::ApplyResponse> {
        let by = peer::writer(&request)?;
        apply::roll_back(&self.switch, request.into_inner(), by).map(Response::new)
    }

    async fn list_revisions(
        &self,
        _: Request<v1::ListRevisionsRequest>,
    ) -> Reply<v1::ListRevisionsResponse> {
        Ok(Response::new(apply::revisions(&self.switch)))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Reply<v1::FlushResponse> {
        let by = peer::writer(&request)?;
        let name = request.into_inner().port;
        let port = Some(name.as_str()).filter(|name| !name.is_empty());
        self.switch.flush(port).map_err(refusal)?;
        tracing::info!(port, by, "flush");
        Ok(Response::new(v1::FlushResponse {}))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        let seat = self.seats.take(peer::right_of(&request)?)?;
        watch::events(&self.switch, seat, request.into_inner()).map(Response::new)
    }

    async fn watch_stats(
        &self,
        request: Request<v1::WatchStatsRequest>,
    ) -> Reply<Self::WatchStatsStream> {
        let seat = self.seats.take(peer::right_of(&request)?)?;
        let v1::WatchStatsRequest { names, interval_ms } = request.into_inner();
        // Who is named has to be there at first; later it may go.
        stats(&self.switch, &names)?;
        let (switch, names): (_, BTreeSet<String>) =
            (self.switch.clone(), names.into_iter().collect());
        let read = move || {
            let mut all = stats(&switch, &[])?;
            all.ports.retain(|name, _| names.is_empty() || names.contains(name));
            Ok(all)
        };
        watch::again(seat, interval_ms, read).map(Response::new)
    }

    async fn capture(&self, request: Request<v1::CaptureRequest>) -> Reply<capture::Stream> {
        peer::writer(&request)?;
        capture::begin(&self.switch, request.into_inner()).map(Response::new)
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Reply<v1::WhyResponse> {
        why::why(&self.switch, request.into_inner()).map(Response::new)
    }
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
