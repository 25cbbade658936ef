//! Numbers and texts as bytes: little-endian variable-length integers, lengths before contents.
//!
//! Reading never panics, whatever the bytes, and never allocates more than the bytes that are there.

use bytes::Bytes;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// They end too early.
    Short,
    /// They contradict the format.
    Invalid(&'static str),
    /// They hold something of a newer format.
    Unknown(&'static str, u64),
}

/// Appends an unsigned integer in 1 to 10 bytes.
#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer, small ones of either sign in few bytes.
#[inline]
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a length and the bytes.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes of a section's or an event's length, which is filled in afterwards.
const LENGTH_BYTES: usize = 4;

/// Reserves room for a length; to be given to [`end_length`].
#[inline]
pub(crate) fn begin_length(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.len()
}

/// Fills in the length of what was appended since `start`.
#[inline]
pub(crate) fn end_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as u32;
    out[start - LENGTH_BYTES..start].copy_from_slice(&length.to_le_bytes());
}

/// Reads what the functions above wrote.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The buffer that `rest` lies in, when payloads may be shared with it.
    shared: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`, copying payloads.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, shared: None }
    }

    /// Reads from `bytes`, a part of `buffer`; large payloads become slices of `buffer`.
    pub(crate) fn sharing(bytes: &'a [u8], buffer: &'a Bytes) -> Self {
        Self { rest: bytes, shared: Some(buffer) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if i == 9 && *byte > 1 {
                    return Err(Malformed::Invalid("an integer is too large"));
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Malformed::Short } else { Malformed::Invalid("an integer is too long") })
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed::Invalid("an integer is too large"))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        let raw = self.u64()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A count of items of at least `least` bytes each, so that it cannot promise more than is there.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u64()?).map_err(|_| Malformed::Short)?;
        if count > self.rest.len() / least.max(1) { Err(Malformed::Short) } else { Ok(count) }
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u64()?).map_err(|_| Malformed::Short)?;
        self.take(length)
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Invalid("a text is not UTF-8"))
    }

    /// A payload. Shared only when it is a large part of the buffer, so that a small one does not pin a large buffer.
    #[inline]
    pub(crate) fn payload(&mut self) -> Result<Bytes, Malformed> {
        let bytes = self.bytes()?;
        match self.shared {
            Some(buffer) if bytes.len() >= buffer.len() / 8 && !bytes.is_empty() => Ok(buffer.slice_ref(bytes)),
            _ => Ok(Bytes::copy_from_slice(bytes)),
        }
    }

    /// The part whose length [`end_length`] filled in.
    pub(crate) fn part(&mut self) -> Result<Self, Malformed> {
        let length = u32::from_le_bytes(self.array()?);
        let rest = self.take(usize::try_from(length).map_err(|_| Malformed::Short)?)?;
        Ok(Self { rest, shared: self.shared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_survive(u in any::<u64>(), i in any::<i64>()) {
            let mut out = Vec::new();
            put_u64(&mut out, u);
            put_i64(&mut out, i);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64(), Ok(u));
            prop_assert_eq!(reader.i64(), Ok(i));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn reading_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.u64().is_ok() && reader.text().is_ok() && reader.part().is_ok() {}
        }
    }

    #[test]
    fn overlong_integers_are_refused() {
        assert!(Reader::new(&[0xff; 10]).u64().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).u64().is_ok());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).u64().is_err());
    }
}
