//! The entries of a zip archive as PyTorch writes it: stored, never compressed, so each is a slice of the file. Nothing
//! is copied and nothing can grow. Every offset is checked against the bytes that are there.

use std::collections::BTreeMap;

use crate::ModelError;

const END_SIGNATURE: u32 = 0x0605_4b50;
const END_BYTES: usize = 22;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const LOCATOR64_SIGNATURE: u32 = 0x0706_4b50;
const LOCATOR64_BYTES: usize = 20;
const ENTRY_SIGNATURE: u32 = 0x0201_4b50;
const ENTRY_BYTES: usize = 46;
const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const LOCAL_BYTES: usize = 30;
/// The extra field that holds sizes of 64 bits.
const EXTRA64: u16 = 1;
/// What a field of 32 bits holds where the real one has 64.
const IN_EXTRA64: u64 = u32::MAX as u64;
/// A comment has a length of 16 bits, so the end of the archive is not further away than this.
const END_SEARCH_BYTES: usize = END_BYTES + u16::MAX as usize;
/// A checkpoint has one entry a tensor; the largest network known has 2,000.
const ENTRIES_MAX: u64 = 100_000;

/// Name and bytes of each entry.
pub(super) type Entries<'a> = BTreeMap<&'a str, &'a [u8]>;

/// Whether the file begins as an archive.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// The entries of an archive.
pub(super) fn entries(bytes: &[u8]) -> Result<Entries<'_>, ModelError> {
    let (count, mut at) = directory(bytes)?;
    let mut found = Entries::new();
    for _ in 0..count {
        let entry = Entry::read(bytes, at)?;
        found.insert(entry.name, entry.data(bytes)?);
        at += entry.directory_bytes;
    }
    Ok(found)
}

/// Number of entries and where the first is described.
fn directory(bytes: &[u8]) -> Result<(u64, usize), ModelError> {
    let from = bytes.len().saturating_sub(END_SEARCH_BYTES);
    let end = (from..bytes.len().saturating_sub(END_BYTES - 1))
        .rev()
        .find(|&at| u32_at(bytes, at).is_ok_and(|found| found == END_SIGNATURE))
        .ok_or_else(|| bad("the end of the archive is missing: the file is cut off"))?;
    let (mut count, mut start) = (
        u64::from(u16_at(bytes, end + 10)?),
        u64::from(u32_at(bytes, end + 16)?),
    );
    let locator = end.checked_sub(LOCATOR64_BYTES);
    if let Some(locator) =
        locator.filter(|&at| u32_at(bytes, at).is_ok_and(|found| found == LOCATOR64_SIGNATURE))
    {
        let end64 = position(u64_at(bytes, locator + 8)?)?;
        if u32_at(bytes, end64)? != END64_SIGNATURE {
            return Err(bad("the archive's directory is damaged"));
        }
        count = u64_at(bytes, end64.saturating_add(32))?;
        start = u64_at(bytes, end64.saturating_add(48))?;
    }
    if count > ENTRIES_MAX {
        return Err(bad("the archive has too many entries"));
    }
    Ok((count, position(start)?))
}

struct Entry<'a> {
    name: &'a str,
    size: u64,
    local: usize,
    directory_bytes: usize,
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Result<Self, ModelError> {
        let head = slice(bytes, at, ENTRY_BYTES)?;
        if u32_at(head, 0)? != ENTRY_SIGNATURE {
            return Err(bad("the archive's directory is damaged"));
        }
        let name_bytes = usize::from(u16_at(head, 28)?);
        let extra_bytes = usize::from(u16_at(head, 30)?);
        let comment_bytes = usize::from(u16_at(head, 32)?);
        let name = std::str::from_utf8(slice(bytes, at + ENTRY_BYTES, name_bytes)?)
            .map_err(|_| bad("an entry's name is not text"))?;
        if u16_at(head, 10)? != 0 {
            return Err(bad(&format!(
                "entry `{name}` is compressed: PyTorch stores its entries"
            )));
        }
        let extra = slice(bytes, at + ENTRY_BYTES + name_bytes, extra_bytes)?;
        // In this order, and only those that the 32 bits cannot hold.
        let mut wide = wide_fields(extra)?.into_iter();
        let mut field = |narrow: u64| match narrow {
            IN_EXTRA64 => wide.next().ok_or_else(|| bad("an entry lacks its size")),
            narrow => Ok(narrow),
        };
        let size = field(u64::from(u32_at(head, 24)?))?;
        let stored = field(u64::from(u32_at(head, 20)?))?;
        let local = field(u64::from(u32_at(head, 42)?))?;
        if size != stored {
            return Err(bad(&format!("entry `{name}` has two sizes")));
        }
        Ok(Self {
            name,
            size,
            local: position(local)?,
            directory_bytes: ENTRY_BYTES + name_bytes + extra_bytes + comment_bytes,
        })
    }

    fn data(&self, bytes: &'a [u8]) -> Result<&'a [u8], ModelError> {
        let head = slice(bytes, self.local, LOCAL_BYTES)?;
        if u32_at(head, 0)? != LOCAL_SIGNATURE {
            return Err(bad(&format!(
                "entry `{}` is not where the archive says",
                self.name
            )));
        }
        let skipped = usize::from(u16_at(head, 26)?) + usize::from(u16_at(head, 28)?);
        slice(bytes, self.local + LOCAL_BYTES + skipped, position(self.size)?)
    }
}

fn wide_fields(mut extra: &[u8]) -> Result<Vec<u64>, ModelError> {
    while extra.len() >= 4 {
        let (kind, len) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let body = slice(extra, 4, len)?;
        if kind == EXTRA64 {
            return (0..len / 8).map(|index| u64_at(body, index * 8)).collect();
        }
        extra = &extra[4 + len..];
    }
    Ok(Vec::new())
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], ModelError> {
    at.checked_add(len)
        .and_then(|end| bytes.get(at..end))
        .ok_or_else(|| bad("the archive names bytes that are not there: the file is cut off or damaged"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ModelError> {
    let found = slice(bytes, at, 2)?;
    Ok(u16::from_le_bytes([found[0], found[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ModelError> {
    let found = slice(bytes, at, 4)?;
    Ok(u32::from_le_bytes([found[0], found[1], found[2], found[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ModelError> {
    Ok(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at.saturating_add(4))?) << 32)
}

fn position(value: u64) -> Result<usize, ModelError> {
    usize::try_from(value)
        .ok()
        .filter(|&value| value <= isize::MAX as usize)
        .ok_or_else(|| bad("the archive's directory is damaged"))
}

fn bad(text: &str) -> ModelError {
    ModelError::Format(text.to_owned())
}
