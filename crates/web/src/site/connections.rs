//! Connections: how many there may be, and how long one may do nothing.
//!
//! *Lives here:* accepting at an address or a socket. *Does not live here:* what is answered.
//!
//! A stream of events may stay open, so a connection has no time limit of its own. But a client
//! that does not read what is sent is disconnected.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};

/// The most connections at once. Further ones wait.
const CONNECTIONS: usize = 512;
/// The time for the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The most bytes of the head of a request.
const HEAD_BYTES: usize = 32 << 10;
/// A client that reads nothing for this time, although something is there to read, is disconnected.
const UNREAD_TIME: Duration = Duration::from_secs(30);
/// The time before another attempt if no connection can be accepted because descriptors are used
/// up.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the server can be reached.
#[derive(Debug)]
pub enum Listener {
    /// At an address.
    Tcp(TcpListener),
    /// At a socket in the file system.
    Unix(UnixListener),
}

/// Answers everybody who connects.
pub async fn accept_all(listener: Listener, routes: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Without this, a small message waits until the client has confirmed the one
                // before.
                let _ = stream.set_nodelay(true);
                Boxed(Box::pin(stream))
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Boxed(Box::pin(stream))),
        };
        let Ok(stream) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            attend(stream, routes, UNREAD_TIME).await;
            drop(place);
        });
    }
}

/// Answers the requests of one connection.
async fn attend(stream: impl Stream, routes: Router, unread_time: Duration) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let stream = Watched { stream, unread_time, unread: None };
    // A client that breaks off the connection needs no message about it.
    let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).await;
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Any kind of connection.
struct Boxed(Pin<Box<dyn Stream>>);

impl AsyncRead for Boxed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Boxed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }
}

/// A connection whose other end must read.
struct Watched<S> {
    stream: S,
    unread_time: Duration,
    /// The deadline for the other end to read something; `None` while nothing waits to be read.
    unread: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Returns what became of an attempt to write, and fails if the other end reads nothing for too
    /// long.
    fn in_time(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let time = self.unread_time;
        let until = self.unread.get_or_insert_with(|| Box::pin(sleep(time)));
        until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    // Otherwise each client would have a copy of what is sent to all of them.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::super::sse;
    use super::*;

    /// No test waits so long.
    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn what_is_sent_to_many_clients_is_not_copied_for_each() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (one, _other) = tokio::net::UnixStream::pair().unwrap();
            let stream = Boxed(Box::pin(one));
            let mut watched = Watched { stream, unread_time: LONG, unread: None };
            // A server of HTTP makes one text of all parts unless it can hand them on as they are.
            assert!(watched.is_write_vectored());
            let parts = [io::IoSlice::new(b"a"), io::IoSlice::new(b"bc")];
            let written =
                std::future::poll_fn(|context| Pin::new(&mut watched).poll_write_vectored(context, &parts));
            assert_eq!(timeout(LONG, written).await.unwrap().unwrap(), 3);
        });
    }

    #[test]
    fn whoever_does_not_read_a_stream_is_cut_off_and_its_source_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (told, mut ended) = mpsc::channel(1);
            let endless = get(move || async move {
                let (sender, receiver) = mpsc::channel(2);
                tokio::spawn(
                    async move { while sender.send(Bytes::from(vec![b'a'; 1 << 16])).await.is_ok() {} },
                );
                sse::response(receiver, Box::pin(std::future::pending()), move || {
                    let _ = told.try_send(());
                })
            });
            let routes = Router::new().route("/", endless);
            let stream = TcpStream::from_std(stream).unwrap();
            timeout(LONG, attend(stream, routes, Duration::from_millis(1))).await.unwrap();
            timeout(LONG, ended.recv()).await.unwrap().unwrap();
        });
    }
}
