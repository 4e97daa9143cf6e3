//! A connection to a running switch, for commands that wait for each answer.

use std::io::ErrorKind;
use std::ops::ControlFlow;

use anyhow::{Context, anyhow};
use hairpin_proto::v1::switch_client::SwitchClient;
use hairpin_proto::v1::{self};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::api::address::ApiAddress;
use crate::api::by_right::MESSAGE_BYTES_MAX;

/// A connection to a running switch.
#[derive(Debug)]
pub struct Client {
    pub(super) runtime: Runtime,
    pub(super) inner: SwitchClient<Channel>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)+) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the switch says.
                pub fn $name(&mut self, request: v1::$request) -> anyhow::Result<v1::$response> {
                    let called = self.runtime.block_on(self.inner.$name(request));
                    called.map(Response::into_inner).map_err(|status| said(&status))
                }
            )+
        }
    };
}

calls! {
    /// The whole switch.
    show(ShowRequest) -> ShowResponse;
    /// All links.
    list_links(ListLinksRequest) -> ListLinksResponse;
    /// All channels.
    list_channels(ListChannelsRequest) -> ListChannelsResponse;
    /// All bridges.
    list_bridges(ListBridgesRequest) -> ListBridgesResponse;
    /// All ports.
    list_ports(ListPortsRequest) -> ListPortsResponse;
    /// One port.
    get_port(GetPortRequest) -> GetPortResponse;
    /// Changes a port.
    set_port(SetPortRequest) -> SetPortResponse;
    /// Ends a quarantine.
    release_port(ReleasePortRequest) -> ReleasePortResponse;
    /// Counters.
    stats(StatsRequest) -> StatsResponse;
    /// A page of addresses.
    fdb(FdbRequest) -> FdbResponse;
    /// All workers.
    list_workers(ListWorkersRequest) -> ListWorkersResponse;
    /// Moves a receive queue to another worker.
    move_queue(MoveQueueRequest) -> MoveQueueResponse;
    /// Applies a desired state.
    apply(ApplyRequest) -> ApplyResponse;
    /// The desired state that runs.
    get(GetRequest) -> GetResponse;
    /// Changes single objects.
    edit(EditRequest) -> ApplyResponse;
    /// Goes back to an earlier revision.
    rollback(RollbackRequest) -> ApplyResponse;
    /// The revisions that are kept.
    list_revisions(ListRevisionsRequest) -> ListRevisionsResponse;
    /// Forgets learned addresses.
    flush(FlushRequest) -> FlushResponse;
    /// What would become of a frame.
    why(WhyRequest) -> WhyResponse;
}

impl Client {
    /// Hands on what happens until it is told to stop, or the switch ends.
    ///
    /// # Errors
    /// What the switch says.
    pub fn watch(
        &mut self,
        request: v1::WatchRequest,
        mut each: impl FnMut(v1::WatchResponse) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let opened = self.inner.watch(request).await.map_err(|status| said(&status))?;
            let mut stream = opened.into_inner();
            while let Some(response) = stream.message().await.map_err(|status| said(&status))? {
                if each(response).is_break() {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    /// Changes single objects; nothing if another revision runs than the one given.
    ///
    /// # Errors
    /// What else the switch says.
    pub fn edit_unless_superseded(
        &mut self,
        request: v1::EditRequest,
    ) -> anyhow::Result<Option<v1::ApplyResponse>> {
        match self.runtime.block_on(self.inner.edit(request)) {
            Ok(response) => Ok(Some(response.into_inner())),
            Err(status) if status.code() == Code::Aborted => Ok(None),
            Err(status) => Err(said(&status)),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn connect(address: &ApiAddress) -> anyhow::Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no thread for the connection could be made")?;
        let endpoint = Endpoint::from_shared(address.to_string())
            .with_context(|| format!("{address} is not an address"))?;
        let channel = runtime.block_on(endpoint.connect()).map_err(|error| {
            if was_closed(&error) {
                return anyhow!(
                    "the switch at {address} closed the connection: it has as many as it takes; \
                     try again when others are closed (`ss -xp` says who holds them)"
                );
            }
            anyhow!(
                "no switch answers at {address}: {}; start one with `hairpin run --config FILE`, \
                 or say with --api or HAIRPIN_API where it is",
                root_cause(&error)
            )
        })?;
        let inner = SwitchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Client { runtime, inner })
    }
}

/// The switch's own words; the code is for programs.
pub(super) fn said(status: &Status) -> anyhow::Error {
    match status.message() {
        "" => anyhow!("the switch refused: {}", status.code()),
        message => anyhow!("{message}"),
    }
}

/// Whether somebody was there, who hung up.
fn was_closed(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut causes = causes.filter_map(|error| error.downcast_ref::<std::io::Error>());
    causes.any(|error| matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
