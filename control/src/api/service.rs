//! The calls of the API. Each takes the engine's lock for as long as it looks or
//! changes, and no longer.

use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::VlanId;
use hairpin_proto::v1::{self, switch_server};
use tonic::{Request, Response, Status};

use super::{peer, views};
use crate::config::VlanConfig;
use crate::config::nearest::hint;
use crate::switch::queues::{MoveError, Moved};
use crate::switch::view::{LearnedAddress, View};
use crate::switch::{ApplyError, HomeChange, PortChange, Release, Switch};

/// Addresses per page unless asked otherwise, and the most.
const PAGE: (usize, usize) = (1000, 10_000);

/// The service of a switch.
#[derive(Debug)]
pub struct Service {
    switch: Switch,
}

impl Service {
    /// Serves this switch.
    #[must_use]
    pub fn new(switch: Switch) -> Service {
        Service { switch }
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl switch_server::Switch for Service {
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
        peer::may_write(&request)?;
        let request = request.into_inner();
        let name = request.name.clone();
        let change = change(request)?;
        let diff = self.switch.set_port(&name, change).map_err(refusal)?;
        tracing::info!(%diff, "set port");
        let view = self.switch.view();
        let (port, revision) = (port(&view, &name)?, view.revision);
        Ok(Response::new(v1::SetPortResponse { port: Some(port), revision }))
    }

    async fn release_port(
        &self,
        request: Request<v1::ReleasePortRequest>,
    ) -> Reply<v1::ReleasePortResponse> {
        peer::may_write(&request)?;
        let name = request.into_inner().name;
        let release = self.switch.release(&name).map_err(refusal)?;
        tracing::info!(port = name, ?release, "release port");
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
        let names = request.into_inner().names;
        let totals = self.switch.totals();
        if let Some(unknown) = names.iter().find(|name| !totals.contains_key(*name)) {
            let near = hint(unknown, totals.keys().map(String::as_str));
            let said = format!("there is no port or link with a device {unknown:?}{near}");
            return Err(Status::not_found(said));
        }
        let wanted = totals.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        let device_drops = self.switch.device_drops();
        let ports = wanted.map(|(name, totals)| {
            let lost = device_drops.get(name).copied().unwrap_or(0);
            (name.clone(), views::counters(totals, lost))
        });
        Ok(Response::new(v1::StatsResponse { ports: ports.collect() }))
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
        peer::may_write(&request)?;
        let v1::MoveQueueRequest { port, queue, worker } = request.into_inner();
        let number = |queue: u32| {
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
        tracing::info!(port, queue, from, to, "move queue");
        let (queue, from, to) = (queue.into(), from as u32, to as u32);
        Ok(Response::new(v1::MoveQueueResponse { queue, from, to }))
    }
}

fn port(view: &View, name: &str) -> Result<v1::Port, Status> {
    let ports = view.desired.ports();
    let found = ports.iter().find(|port| port.name == name);
    found.map(|port| views::port(view, port)).ok_or_else(|| {
        let near = hint(name, ports.iter().map(|port| &*port.name));
        Status::not_found(format!("there is no port {name:?}{near}"))
    })
}

fn refusal(error: ApplyError) -> Status {
    let said = error.to_string();
    match error {
        ApplyError::NoSuchPort { .. } => Status::not_found(said),
        ApplyError::Exhausted { .. } => Status::resource_exhausted(said),
        ApplyError::Compile(_) => Status::internal(said),
        ApplyError::Invalid(_)
        | ApplyError::Device { .. }
        | ApplyError::Mtu { .. }
        | ApplyError::Restart { .. } => Status::failed_precondition(said),
    }
}

fn not_moved(error: MoveError) -> Status {
    let said = error.to_string();
    match error {
        MoveError::NoSuchPort { .. }
        | MoveError::NoSuchQueue { .. }
        | MoveError::NoSuchWorker { .. } => Status::not_found(said),
        MoveError::WhichQueue { .. } => Status::invalid_argument(said),
        MoveError::NotBreathing { .. }
        | MoveError::Waiting { .. }
        | MoveError::Quarantined { .. } => Status::failed_precondition(said),
        MoveError::Pending { .. } => Status::deadline_exceeded(said),
        MoveError::Overtaken { .. } => Status::aborted(said),
    }
}

/// What a request asks to change.
fn change(request: v1::SetPortRequest) -> Result<PortChange, Status> {
    let object = format!("port {}", request.name);
    let unknown = |field: &str, value: i32| {
        Status::invalid_argument(format!("{object}: {field}: {value} is not known; see the API"))
    };
    let mode = match v1::Mode::try_from(request.mode) {
        Ok(v1::Mode::Unspecified) => None,
        Ok(v1::Mode::Veb) => Some(Mode::Veb),
        Ok(v1::Mode::Vepa) => Some(Mode::Vepa),
        Ok(v1::Mode::Private) => Some(Mode::Private),
        Ok(v1::Mode::Direct) => Some(Mode::Direct),
        Err(_) => return Err(unknown("mode", request.mode)),
    };
    let admin = match v1::Admin::try_from(request.admin) {
        Ok(v1::Admin::Unspecified) => None,
        Ok(v1::Admin::Up) => Some(Admin::Up),
        Ok(v1::Admin::Down) => Some(Admin::Down),
        Err(_) => return Err(unknown("admin", request.admin)),
    };
    let home = request.home.map(|home| match home {
        v1::set_port_request::Home::Channel(name) => HomeChange::Channel(name),
        v1::set_port_request::Home::Bridge(name) => HomeChange::Bridge(name),
    });
    let vlan = request.vlan.map(|vlan| vlans(&object, vlan)).transpose()?;
    Ok(PortChange { mode, home, vlan, admin })
}

fn vlans(object: &str, vlan: v1::Vlan) -> Result<VlanConfig, Status> {
    let id = |number: u32| {
        let id = u16::try_from(number).ok().and_then(VlanId::new);
        id.ok_or_else(|| {
            let said = format!("{object}: vlan: {number} is not a VLAN; VLANs are 1 to 4094");
            Status::invalid_argument(said)
        })
    };
    let nothing = || {
        let remedy = "name transparent, access or trunk";
        Status::invalid_argument(format!("{object}: vlan: it says nothing; {remedy}"))
    };
    match vlan.policy.ok_or_else(nothing)? {
        v1::vlan::Policy::Transparent(_) => Ok(VlanConfig::Transparent),
        v1::vlan::Policy::Access(access) => id(access).map(VlanConfig::Access),
        v1::vlan::Policy::Trunk(trunk) => {
            if trunk.vids.is_empty() && trunk.native.is_none() {
                return Err(nothing());
            }
            let native = trunk.native.map(id).transpose()?;
            let mut members = trunk.vids.into_iter().map(id).collect::<Result<Vec<_>, _>>()?;
            members.sort_unstable();
            members.dedup();
            Ok(VlanConfig::Trunk { members, native })
        }
    }
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
