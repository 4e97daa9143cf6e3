//! Who may do nothing is told so, and who may only read has no use for large messages: what a
//! caller may is looked at before anything of a message is taken in.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hairpin_proto::v1::switch_server::SwitchServer;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::peer::{self, Right};
use super::service::Service;

/// The largest message of somebody who may write, and the largest answer, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The largest message of somebody who may only read, in bytes.
pub const READER_BYTES_MAX: usize = 64 << 10;

/// The calls, as callers of each right have them.
#[derive(Clone, Debug)]
pub struct ByRight {
    writers: SwitchServer<Service>,
    readers: SwitchServer<Service>,
}

impl ByRight {
    /// These calls.
    #[must_use]
    pub fn new(service: Service) -> ByRight {
        let service = Arc::new(service);
        let server = |bytes_max| {
            SwitchServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
        ByRight { writers: server(MESSAGE_BYTES_MAX), readers: server(READER_BYTES_MAX) }
    }
}

impl NamedService for ByRight {
    const NAME: &'static str = <SwitchServer<Service> as NamedService>::NAME;
}

impl tower::Service<Request<Body>> for ByRight {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match peer::right(request.extensions()) {
            Ok(Right::Write) => self.writers.call(request),
            Ok(Right::Read | Right::Nothing) => self.readers.call(request),
            Err(refused) => Box::pin(async move { Ok(refused.into_http()) }),
        }
    }
}
