//! Who asks, by HTTP/1.1, and how long that may take.
//!
//! Nobody is asked who they are, and anybody may be slow or mean harm. So a connection is
//! good for one request and lives for some seconds at most; beyond a number of them the
//! oldest is closed for the newest. One who asks and listens is answered within
//! milliseconds, and is not the oldest for long.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use super::exposition::Exposition;
use super::page::Source;

/// Connections that may be open at a time.
pub const CONNECTIONS_MAX: usize = 32;
/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(5);
/// How long all may take, until the last byte of the answer.
const CONNECTION: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of a connection's buffer.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long no connection is taken in after one could not be.
const PAUSE: Duration = Duration::from_millis(200);

/// Where clients come in.
#[derive(Debug)]
pub enum Listener {
    /// At a UNIX socket.
    Unix(UnixListener),
    /// At an address of the host's.
    Tcp(TcpListener),
}

/// What a client is connected by.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Answers whoever comes, for ever.
pub async fn serve(listener: Listener, source: Source) {
    let source = Arc::new(Mutex::new(source));
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "metrics: a connection could not be taken in");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == CONNECTIONS_MAX {
            open.pop_front().iter().for_each(JoinHandle::abort);
        }
        let source = Arc::clone(&source);
        let connection = converse(stream, source);
        open.push_back(tokio::spawn(async move {
            // Whoever is late is hung up on.
            let _ = tokio::time::timeout(CONNECTION, connection).await;
        }));
    }
}

async fn converse(stream: Box<dyn Stream>, source: Arc<Mutex<Source>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&source, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "metrics: a connection ended");
    }
}

fn answer(source: &Mutex<Source>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "ask by GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accepted: Vec<&str> =
        request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Exposition::preferred(&accepted.join(","));
    // Nobody waits for it: there is one thread.
    let text = source.lock().unwrap_or_else(PoisonError::into_inner).text(format);
    let mut response = Response::new(Full::new(text));
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn said(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
