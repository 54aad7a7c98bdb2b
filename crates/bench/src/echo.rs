//! The peer of a look-up: messages of the same sizes over the same two hops, set up by the same code with the same
//! certificates, with nothing done in between.

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::RoutesBuilder, transport::Channel};
use vsm_config::Config;
use vsm_daemon::{
    access::{ByRole, Caller, Door, Guard, Method},
    grpc,
    socket::{self, Access},
    tls::Tls,
};

use self::pb::{
    EchoRequest, EchoResponse,
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};

/// Generated types.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    clippy::use_self,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub(crate) mod pb {
    tonic::include_proto!("vsm.bench.echo.v1");
}

/// Who may call it: as with the product, a guard is asked.
const METHODS: &[Method] =
    &[Method::new("vsm.bench.echo.v1.Echo/Echo", &[Caller::User, Caller::Host], "")];

/// The first hop.
#[derive(Debug, Args)]
pub(crate) struct FrontOptions {
    /// Unix socket to serve on
    #[arg(long)]
    socket: PathBuf,
    /// Size of its answers in bytes
    #[arg(long)]
    answer: usize,
    /// Host of the second hop
    #[arg(long)]
    back: String,
    /// Its port
    #[arg(long)]
    port: u16,
    /// Size of what it asks there, in bytes
    #[arg(long)]
    back_ask: usize,
}

/// The second hop.
#[derive(Debug, Args)]
pub(crate) struct BackOptions {
    /// Port to serve on
    #[arg(long)]
    port: u16,
    /// Size of its answers in bytes
    #[arg(long)]
    answer: usize,
}

/// Padding with which a message of one bytes field is `size` bytes long.
fn padding(size: usize) -> Vec<u8> {
    // One byte of key, then the length: one byte up to 127, two beyond.
    let frame = if size > 129 { 3 } else { 2 };
    vec![b'x'; size.saturating_sub(frame)]
}

/// One call of the echo; the answer must be as long as it should be.
pub(crate) async fn call(
    client: &mut EchoClient<Channel>,
    ask: usize,
    answer: usize,
) -> Result<(), Status> {
    let got = client.echo(EchoRequest { padding: padding(ask) }).await?.into_inner();
    let size = prost::Message::encoded_len(&got);
    if size == answer {
        Ok(())
    } else {
        Err(Status::internal(format!("{size} bytes, not {answer}")))
    }
}

struct Front {
    back: EchoClient<Channel>,
    back_ask: usize,
    answer: usize,
}

#[tonic::async_trait]
impl Echo for Front {
    async fn echo(&self, _: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.back.clone().echo(EchoRequest { padding: padding(self.back_ask) }).await?;
        Ok(Response::new(EchoResponse { padding: padding(self.answer) }))
    }
}

struct Back {
    answer: usize,
}

#[tonic::async_trait]
impl Echo for Back {
    async fn echo(&self, _: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(EchoResponse { padding: padding(self.answer) }))
    }
}

pub(crate) fn tls() -> Result<Tls> {
    Ok(Tls::load(&Config::load("/etc/vsm/conf.d".as_ref())?)?)
}

/// Ends the server when whoever started it is gone.
pub(crate) fn until_stdin_closes() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        // Nothing is ever written to it: the read ends when the other side does, in whichever way.
        let _ = tokio::io::stdin().read(&mut [0]).await;
        token.cancel();
    });
    stop
}

/// Serves the first hop.
pub(crate) async fn front(options: FrontOptions) -> Result<()> {
    let FrontOptions { socket, answer, back, port, back_ask } = options;
    let back = EchoClient::new(grpc::channel(&back, port, &tls()?)?);
    let mut routes = RoutesBuilder::default();
    routes.add_service(EchoServer::new(Front { back, back_ask, answer }));
    let listener = socket::keep(&socket, Access { mode: 0o600, group: None })?;
    Ok(grpc::serve_unix(
        listener,
        routes.routes(),
        Door::Users,
        Guard::of(METHODS, ByRole),
        until_stdin_closes(),
    )
    .await?)
}

/// Serves the second hop.
pub(crate) async fn back(options: BackOptions) -> Result<()> {
    let BackOptions { port, answer } = options;
    let mut routes = RoutesBuilder::default();
    routes.add_service(EchoServer::new(Back { answer }));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("port {port}"))?;
    Ok(grpc::serve_tls(
        listener,
        &tls()?,
        routes.routes(),
        Guard::of(METHODS, ByRole),
        until_stdin_closes(),
    )
    .await?)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_message_is_as_long_as_asked() {
        for size in [38, 129, 131, 205, 300] {
            assert_eq!(EchoRequest { padding: padding(size) }.encoded_len(), size);
        }
    }
}
