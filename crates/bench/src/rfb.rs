//! A viewer that speaks RFB 3.8 (RFC 6143) as far as it must, over a socket or through `vsm-web`'s WebSocket.

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

const BUFFER: usize = 1 << 18;

/// What leads to the desktop.
pub(crate) enum Wire {
    /// A socket, as `vsm connect --no-viewer` opens one.
    Socket(UnixStream),
    /// The page's connection.
    Web(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

/// The viewer.
pub(crate) struct Viewer {
    wire: Wire,
    buffer: Vec<u8>,
    /// What of the buffer is still to be read.
    unread: std::ops::Range<usize>,
    size: [u8; 4],
    bytes_per_pixel: u64,
}

impl Viewer {
    /// Greets the X server; pictures come without compression.
    pub(crate) async fn greet(wire: Wire) -> Result<Self> {
        let buffer = vec![0; BUFFER];
        let mut viewer = Self { wire, buffer, unread: 0..0, size: [0; 4], bytes_per_pixel: 0 };
        viewer.get::<12>().await?;
        viewer.say(b"RFB 003.008\n").await?;
        let [kinds] = viewer.get().await?;
        viewer.skip(kinds.into()).await?;
        viewer.say(&[1]).await?;
        ensure!(viewer.get().await? == [0; 4], "the X server lets nobody in");
        viewer.say(&[1]).await?;
        let init: [u8; 24] = viewer.get().await?;
        viewer.size.copy_from_slice(&init[..4]);
        viewer.bytes_per_pixel = u64::from(init[4] / 8);
        viewer.skip(long(&init[20..]).into()).await?;
        // SetEncodings: raw alone.
        viewer.say(&[2, 0, 0, 1, 0, 0, 0, 0]).await?;
        Ok(viewer)
    }

    /// Asks for the whole desktop and takes it; how many bytes of pixels that was.
    pub(crate) async fn picture(&mut self) -> Result<u64> {
        self.ask(false).await?;
        self.update().await
    }

    /// Asks for the desktop, or for what changes of it.
    pub(crate) async fn ask(&mut self, changes: bool) -> Result<()> {
        let mut request = [3, u8::from(changes), 0, 0, 0, 0, 0, 0, 0, 0];
        request[6..].copy_from_slice(&self.size);
        self.say(&request).await
    }

    /// Presses and releases a key, by its keysym.
    pub(crate) async fn press(&mut self, keysym: u8) -> Result<()> {
        let event = |down: u8| [4, down, 0, 0, 0, 0, 0, keysym];
        self.say(&[event(1), event(0)].concat()).await
    }

    /// Moves the pointer.
    pub(crate) async fn point(&mut self, x: u8, y: u8) -> Result<()> {
        self.say(&[5, 0, 0, x, 0, y]).await
    }

    /// Waits for the next picture, and takes it.
    pub(crate) async fn update(&mut self) -> Result<u64> {
        loop {
            match self.get().await? {
                [0] => break,
                [2] => {}
                [3] => {
                    let head: [u8; 7] = self.get().await?;
                    self.skip(long(&head[3..]).into()).await?;
                }
                [other] => bail!("the X server says {other}"),
            }
        }
        let head: [u8; 3] = self.get().await?;
        let mut bytes = 0;
        for _ in 0..short(&head[1..]) {
            let rectangle: [u8; 12] = self.get().await?;
            ensure!(long(&rectangle[8..]) == 0, "another encoding than was asked for");
            let pixels = u64::from(short(&rectangle[4..])) * u64::from(short(&rectangle[6..]));
            self.skip(pixels * self.bytes_per_pixel).await?;
            bytes += pixels * self.bytes_per_pixel;
        }
        Ok(bytes)
    }

    /// Takes what comes, as a page does that nothing happens in, until the other side ends.
    pub(crate) async fn rest(&mut self) -> Result<()> {
        loop {
            self.more().await?;
            self.unread = 0..0;
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.wire {
            Wire::Socket(socket) => socket.write_all(bytes).await?,
            Wire::Web(web) => web.send(Message::binary(bytes.to_vec())).await?,
        }
        Ok(())
    }

    async fn get<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            while self.unread.is_empty() {
                self.more().await?;
            }
            *byte = self.buffer[self.unread.start];
            self.unread.start += 1;
        }
        Ok(bytes)
    }

    async fn skip(&mut self, mut bytes: u64) -> Result<()> {
        loop {
            let here = u64::try_from(self.unread.len())?.min(bytes);
            self.unread.start += usize::try_from(here)?;
            bytes -= here;
            if bytes == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    /// Takes what comes next, once all of what came before has been read.
    async fn more(&mut self) -> Result<()> {
        match &mut self.wire {
            Wire::Socket(socket) => {
                let count = socket.read(&mut self.buffer).await.context("the desktop")?;
                ensure!(count > 0, "the desktop has hung up");
                self.unread = 0..count;
            }
            Wire::Web(web) => {
                match web.next().await.context("the page's connection has ended")?? {
                    Message::Binary(bytes) => {
                        self.buffer.clear();
                        self.buffer.extend_from_slice(&bytes);
                        self.unread = 0..bytes.len();
                    }
                    Message::Text(text) if text.contains("\"failed\"") => {
                        bail!("vsm-web says {text}")
                    }
                    Message::Close(_) => bail!("the page's connection was closed"),
                    Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn short(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn long(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
