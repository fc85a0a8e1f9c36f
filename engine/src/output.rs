//! What does a sandboxed process print?

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rbuild_core::Stream;
use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Hands everything that comes out of both pipes to `sink`, in the order it arrives, until both are closed, which is
/// at the latest when the sandbox's last process ends.
pub(crate) async fn pump<P: AsyncRead + Unpin>(
    mut stdout: Option<P>,
    mut stderr: Option<P>,
    mut sink: impl FnMut(Stream, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    std::future::poll_fn(|context| {
        loop {
            let first = drain(&mut stdout, context, &mut buffer, |data| sink(Stream::Stdout, data))?;
            let second = drain(&mut stderr, context, &mut buffer, |data| sink(Stream::Stderr, data))?;
            if stdout.is_none() && stderr.is_none() {
                return Poll::Ready(Ok(()));
            }
            if !first && !second {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Reads once; tells whether anything came. A pipe that ended becomes `None`.
fn drain<P: AsyncRead + Unpin>(
    pipe: &mut Option<P>,
    context: &mut Context<'_>,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let Some(reader) = pipe else { return Ok(false) };
    let mut read = ReadBuf::new(buffer);
    match Pin::new(reader).poll_read(context, &mut read) {
        Poll::Pending => Ok(false),
        // What a terminal says when its last user is gone.
        Poll::Ready(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
            *pipe = None;
            Ok(true)
        }
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) if read.filled().is_empty() => {
            *pipe = None;
            Ok(true)
        }
        Poll::Ready(Ok(())) => sink(read.filled()).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pipes_are_read_to_their_end() {
        let mut seen = Vec::new();
        let pumped = pump(Some(&b"out"[..]), Some(&b"err"[..]), |stream, data| {
            seen.push((stream, data.to_vec()));
            Ok(())
        });
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(pumped).unwrap();
        assert_eq!(seen, [(Stream::Stdout, b"out".to_vec()), (Stream::Stderr, b"err".to_vec())]);
    }
}
