//! An object read from its first byte to its last. A connection that breaks costs no byte that came: the library asks again for
//! the rest until the patience that one request has is used up, which counts from its start; beyond that this does, for as long
//! as bytes come. How long a bucket that is away is waited for stays the library's.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore};

/// Breaks in a row, without a byte between them, that end a reading: a server that answers and then sends nothing is not waited
/// for for ever.
const BARREN_BREAKS_MAX: u32 = 3;

/// An object that is being read.
pub(crate) struct Reading {
    backend: Arc<dyn ObjectStore>,
    path: ObjectPath,
    meta: ObjectMeta,
    pieces: BoxStream<'static, Result<Bytes, Error>>,
    progress: Progress,
}

impl Reading {
    pub(crate) async fn open(backend: Arc<dyn ObjectStore>, path: ObjectPath) -> Result<Self, Error> {
        let found = backend.get_opts(&path, GetOptions::default()).await?;
        let meta = found.meta.clone();
        Ok(Self {
            backend,
            path,
            progress: Progress::of(meta.size),
            meta,
            pieces: found.into_stream(),
        })
    }

    /// The next piece; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let broken = match self.pieces.try_next().await {
                Ok(piece) => {
                    let bytes = piece.as_ref().map_or(0, Bytes::len);
                    self.progress.add(bytes as u64);
                    return Ok(piece);
                }
                Err(error) => error,
            };
            match self.progress.after_break() {
                AfterBreak::End => return Ok(None),
                AfterBreak::GoOnFrom(byte) => self.go_on_from(byte).await?,
                AfterBreak::GiveUp => return Err(broken),
            }
        }
    }

    async fn go_on_from(&mut self, byte: u64) -> Result<(), Error> {
        let rest = GetOptions {
            range: Some(GetRange::Offset(byte)),
            ..GetOptions::default()
        };
        let found = self.backend.get_opts(&self.path, rest).await?;
        if found.meta != self.meta {
            return Err(Error::Precondition {
                path: self.path.to_string(),
                source: "it changed while it was read".into(),
            });
        }
        self.pieces = found.into_stream();
        Ok(())
    }
}

/// How far a reading is.
#[derive(Debug)]
struct Progress {
    size: u64,
    reached: u64,
    /// Breaks since the last byte.
    breaks: u32,
}

/// What to do when the connection broke.
#[derive(Debug, PartialEq, Eq)]
enum AfterBreak {
    /// All of it is there.
    End,
    GoOnFrom(u64),
    GiveUp,
}

impl Progress {
    fn of(size: u64) -> Self {
        Self {
            size,
            reached: 0,
            breaks: 0,
        }
    }

    fn add(&mut self, bytes: u64) {
        self.reached += bytes;
        if bytes > 0 {
            self.breaks = 0;
        }
    }

    fn after_break(&mut self) -> AfterBreak {
        self.breaks += 1;
        if self.reached >= self.size {
            AfterBreak::End
        } else if self.breaks < BARREN_BREAKS_MAX {
            AfterBreak::GoOnFrom(self.reached)
        } else {
            AfterBreak::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_goes_on_where_it_broke_for_as_long_as_bytes_come() {
        let mut progress = Progress::of(1_000);
        for reached in 1..1_000 {
            progress.add(1);
            assert_eq!(progress.after_break(), AfterBreak::GoOnFrom(reached));
            assert_eq!(progress.after_break(), AfterBreak::GoOnFrom(reached));
        }
        progress.add(1);
        assert_eq!(progress.after_break(), AfterBreak::End);
    }

    #[test]
    fn a_reading_that_brings_no_byte_ends() {
        let mut progress = Progress::of(10);
        progress.add(4);
        for _ in 1..BARREN_BREAKS_MAX {
            progress.add(0);
            assert_eq!(progress.after_break(), AfterBreak::GoOnFrom(4));
        }
        assert_eq!(progress.after_break(), AfterBreak::GiveUp);
    }
}
