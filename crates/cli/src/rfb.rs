//! A picture of a desktop: the least of RFB 3.8 (RFC 6143) that gets one, in raw encoding.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// Nothing new for this long: the desktop has been drawn.
const QUIET: Duration = Duration::from_millis(800);
/// A desktop that never rests is taken as it is then.
const DRAW_MAX: Duration = Duration::from_secs(15);
/// A desktop of one colour is not drawn yet, or is meant so: wait this long for more.
const BLANK_MAX: Duration = Duration::from_secs(8);
/// Longest name or text that a server may send.
const TEXT_MAX: u32 = 1 << 20;

/// A desktop's pixels, red, green and blue, line by line.
#[derive(Debug)]
pub struct Picture {
    width: u16,
    height: u16,
    rgb: Vec<u8>,
}

impl Picture {
    /// Writes a PNG file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = io::BufWriter::new(std::fs::File::create(path)?);
        let mut encoder = png::Encoder::new(file, self.width.into(), self.height.into());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        Ok(writer.finish()?)
    }

    fn is_blank(&self) -> bool {
        self.rgb.chunks_exact(3).all(|pixel| Some(pixel) == self.rgb.get(..3))
    }

    fn blit(&mut self, x: u16, y: u16, width: u16, bgrx: &[u8]) {
        let row_bytes = usize::from(width) * 4;
        for (row, line) in bgrx.chunks_exact(row_bytes).enumerate() {
            let start = ((usize::from(y) + row) * usize::from(self.width) + usize::from(x)) * 3;
            let Some(target) = self.rgb.get_mut(start..start + usize::from(width) * 3) else {
                return;
            };
            for (to, from) in target.chunks_exact_mut(3).zip(line.chunks_exact(4)) {
                to.copy_from_slice(&[from[2], from[1], from[0]]);
            }
        }
    }
}

/// Takes a picture once the desktop has been drawn: when it has been quiet for a moment, or after a bound.
///
/// # Errors
/// If the other side breaks off or speaks something else.
pub async fn take<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Picture> {
    let (width, height) = handshake(stream).await?;
    let mut picture =
        Picture { width, height, rgb: vec![0; usize::from(width) * usize::from(height) * 3] };
    let began = Instant::now();
    request(stream, width, height, Ask::All).await?;
    update(stream, &mut picture).await?;
    let mut quiet_since = Instant::now();
    request(stream, width, height, Ask::Changes).await?;
    loop {
        let patience = if picture.is_blank() { began + BLANK_MAX } else { quiet_since + QUIET };
        match timeout_at(patience.min(began + DRAW_MAX), update(stream, &mut picture)).await {
            Ok(done) => done?,
            Err(_) => return Ok(picture),
        }
        quiet_since = Instant::now();
        request(stream, width, height, Ask::Changes).await?;
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<(u16, u16)> {
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    if !version.starts_with(b"RFB 003.") {
        return Err(io::Error::other("the session does not speak RFB"));
    }
    stream.write_all(b"RFB 003.008\n").await?;
    let types = stream.read_u8().await?;
    if types == 0 {
        return Err(io::Error::other(text(stream).await?));
    }
    let mut offered = vec![0; types.into()];
    stream.read_exact(&mut offered).await?;
    if !offered.contains(&1) {
        return Err(io::Error::other("the session asks for a VNC password"));
    }
    stream.write_all(&[1]).await?;
    if stream.read_u32().await? != 0 {
        return Err(io::Error::other(text(stream).await?));
    }
    // ClientInit: shared.
    stream.write_all(&[1]).await?;
    let (width, height) = (stream.read_u16().await?, stream.read_u16().await?);
    let mut format = [0; 16];
    stream.read_exact(&mut format).await?;
    text(stream).await?;
    // SetPixelFormat: 32 bits, little endian, true colour, shifts 16, 8, 0. SetEncodings: raw only.
    let format = [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
    stream.write_all(&format).await?;
    stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0]).await?;
    Ok((width, height))
}

#[derive(Clone, Copy)]
enum Ask {
    All,
    Changes,
}

async fn request<S: AsyncWrite + Unpin>(
    stream: &mut S,
    width: u16,
    height: u16,
    ask: Ask,
) -> io::Result<()> {
    let incremental = match ask {
        Ask::All => 0,
        Ask::Changes => 1,
    };
    let mut message = vec![3, incremental, 0, 0, 0, 0];
    message.extend(width.to_be_bytes());
    message.extend(height.to_be_bytes());
    stream.write_all(&message).await?;
    stream.flush().await
}

/// Reads messages until a framebuffer update has been taken in.
async fn update<S: AsyncRead + Unpin>(stream: &mut S, picture: &mut Picture) -> io::Result<()> {
    loop {
        match stream.read_u8().await? {
            0 => break,
            // Bell.
            2 => {}
            // ServerCutText.
            3 => {
                skip(stream, 3).await?;
                text(stream).await?;
            }
            other => return Err(io::Error::other(format!("the session sent RFB message {other}"))),
        }
    }
    skip(stream, 1).await?;
    for _ in 0..stream.read_u16().await? {
        let (x, y) = (stream.read_u16().await?, stream.read_u16().await?);
        let (width, height) = (stream.read_u16().await?, stream.read_u16().await?);
        if stream.read_i32().await? != 0 {
            return Err(io::Error::other("the session sent an encoding that was not asked for"));
        }
        if u32::from(x) + u32::from(width) > picture.width.into()
            || u32::from(y) + u32::from(height) > picture.height.into()
        {
            return Err(io::Error::other("the session sent pixels outside of its desktop"));
        }
        let mut pixels = vec![0; usize::from(width) * usize::from(height) * 4];
        stream.read_exact(&mut pixels).await?;
        if width > 0 {
            picture.blit(x, y, width, &pixels);
        }
    }
    Ok(())
}

async fn skip<S: AsyncRead + Unpin>(stream: &mut S, bytes: usize) -> io::Result<()> {
    let mut scratch = [0; 4];
    stream.read_exact(&mut scratch[..bytes]).await.map(drop)
}

async fn text<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let length = stream.read_u32().await?;
    if length > TEXT_MAX {
        return Err(io::Error::other("the session sent a text beyond all bounds"));
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_land_where_they_belong() {
        let mut picture = Picture { width: 3, height: 2, rgb: vec![0; 18] };
        assert!(picture.is_blank());
        picture.blit(1, 1, 2, &[3, 2, 1, 0, 6, 5, 4, 0]);
        assert_eq!(picture.rgb[12..], [1, 2, 3, 4, 5, 6]);
        assert!(!picture.is_blank());
    }

    #[tokio::test]
    async fn something_else_than_rfb_is_an_error() {
        let (mut us, mut them) = tokio::io::duplex(64);
        them.write_all(b"SSH-2.0-OpenSSH_9.2").await.unwrap();
        drop(them);
        assert!(take(&mut us).await.unwrap_err().to_string().contains("does not speak RFB"));
    }
}
