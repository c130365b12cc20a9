//! Reads lines of a bounded length. A line that is longer is passed over up to its end, without
//! being kept.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line is in the buffer, without its newline.
    Line,
    /// A line was longer than allowed.
    TooLong,
    /// The input has ended.
    End,
}

/// Reads the next line into `line`, which is empty before the first call for it.
///
/// Cancel-safe as long as `line` is kept for the next call: what was read is in there. A line that
/// is too long is kept to one byte over its bound, which is how the next call knows.
///
/// # Errors
/// What the input says.
pub(super) async fn next_line(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<Next> {
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(if line.is_empty() { Next::End } else { whole(line, bytes_max) });
        }
        let newline = buffer.iter().position(|&byte| byte == b'\n');
        let part = &buffer[..newline.unwrap_or(buffer.len())];
        let room = (bytes_max + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(newline.is_some());
        input.consume(used);
        if newline.is_some() {
            return Ok(whole(line, bytes_max));
        }
    }
}

fn whole(line: &mut Vec<u8>, bytes_max: usize) -> Next {
    if line.len() > bytes_max {
        return Next::TooLong;
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Next::Line
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, BufReader, duplex};

    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_the_last_needs_no_newline() {
        let input = b"one\r\n\n12345678\n123456789\nlast".as_slice();
        let mut input = BufReader::with_capacity(4, input);
        let mut line = Vec::new();
        let mut seen = Vec::new();
        loop {
            let next = next_line(&mut input, &mut line, 8).await.unwrap();
            seen.push((next, String::from_utf8(std::mem::take(&mut line)).unwrap()));
            if next == Next::End {
                break;
            }
        }
        let texts: Vec<_> = seen.iter().map(|(next, text)| (*next, text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (Next::Line, "one"),
                (Next::Line, ""),
                (Next::Line, "12345678"),
                (Next::TooLong, "123456789"),
                (Next::Line, "last"),
                (Next::End, ""),
            ]
        );
    }

    #[tokio::test]
    async fn half_a_line_survives_a_cancelled_read() {
        let (mut writer, reader) = duplex(64);
        let mut input = BufReader::new(reader);
        let mut line = Vec::new();
        writer.write_all(b"ha").await.unwrap();
        {
            let mut read = Box::pin(next_line(&mut input, &mut line, 8));
            assert!(futures::poll!(read.as_mut()).is_pending());
        }
        writer.write_all(b"lf\n").await.unwrap();
        assert_eq!(next_line(&mut input, &mut line, 8).await.unwrap(), Next::Line);
        assert_eq!(line, b"half");
    }
}
