use std::io::{self, BufRead, BufReader, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{
    CENTRAL_HEADER, DEFLATED, DESCRIPTOR, ENCRYPTED, END, KINDS, LARGEST_32, LINK, LOCAL_HEADER,
    SIZES_FOLLOW, STORED, ZIP64, ZIP64_END,
};

/// How much is read and unpacked at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// Reads a zip from front to back. What it says is checked against what is there: a zip that was
/// cut off or damaged is an error, never a shorter one.
pub struct ZipReader<R> {
    input: BufReader<R>,
    inflate: Decompress,
    out: Vec<u8>,
    /// The entry whose content has not been read.
    current: Option<Header>,
    link: Option<String>,
}

/// What stands in front of an entry's content.
#[derive(Debug, Clone, Copy)]
struct Header {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    is_zip64: bool,
}

impl<R: Read> ZipReader<R> {
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(CHUNK, input),
            inflate: Decompress::new(false),
            out: vec![0; CHUNK],
            current: None,
            link: None,
        }
    }

    /// The name of the next entry; a folder's ends with a slash. None at the end of the zip, which
    /// is then read to the end of the input.
    ///
    /// # Errors
    /// The input cannot be read, or is not a zip of the kind GoCD's programs write.
    pub fn next_entry(&mut self) -> io::Result<Option<String>> {
        self.content(|_| Ok(()))?;
        match self.u32()? {
            LOCAL_HEADER => {}
            CENTRAL_HEADER => {
                self.list()?;
                io::copy(&mut self.input, &mut io::sink())?;
                return Ok(None);
            }
            END | ZIP64_END => {
                io::copy(&mut self.input, &mut io::sink())?;
                return Ok(None);
            }
            _ => return Err(broken("it is not a zip, or damaged")),
        }
        let mut fixed = [0; 26];
        self.input.read_exact(&mut fixed)?;
        let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let mut name = vec![0; usize::from(u16_at(22))];
        self.input.read_exact(&mut name)?;
        let mut extra = vec![0; usize::from(u16_at(24))];
        self.input.read_exact(&mut extra)?;
        let name = String::from_utf8(name).map_err(|_| broken("a name in it is not UTF-8"))?;
        let mut header = Header {
            flags: u16_at(2),
            method: u16_at(4),
            crc: u32_at(10),
            packed: u64::from(u32_at(14)),
            size: u64::from(u32_at(18)),
            is_zip64: false,
        };
        header.read_zip64(&extra);
        let known = header.flags & SIZES_FOLLOW == 0;
        match header.method {
            _ if header.flags & ENCRYPTED != 0 => return Err(broken("it is encrypted")),
            DEFLATED => {}
            STORED if known && header.packed == header.size => {}
            STORED => return Err(broken("an entry does not say how long it is")),
            _ => return Err(broken("it is packed in a way that is not known")),
        }
        self.current = Some(header);
        Ok(Some(name))
    }

    /// Hands the content of the current entry to `take`, piece by piece. Nothing when it was read
    /// before.
    ///
    /// # Errors
    /// As [`ZipReader::next_entry`], and those of `take`.
    pub fn content(&mut self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(mut header) = self.current.take() else {
            return Ok(());
        };
        let mut crc = Crc::new();
        let (packed, size) = if header.method == STORED {
            self.stored(header.size, &mut crc, &mut take)?;
            (header.size, header.size)
        } else {
            self.deflated(&mut crc, &mut take)?
        };
        if header.flags & SIZES_FOLLOW != 0 {
            let is_zip64 = header.is_zip64 || packed > LARGEST_32 || size > LARGEST_32;
            header = self.descriptor(header, is_zip64)?;
        }
        if (header.crc, header.packed, header.size) != (crc.sum(), packed, size) {
            return Err(broken("an entry is not what its checksum says"));
        }
        Ok(())
    }

    /// After the last entry: the first that is a symbolic link by the list at the end, if one is. Its
    /// content was the path it leads to.
    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }

    /// Reads the list at the end, of which the first signature was read.
    fn list(&mut self) -> io::Result<()> {
        loop {
            let mut fixed = [0; 42];
            self.input.read_exact(&mut fixed)?;
            let length = |at: usize| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
            let attributes = u32::from_le_bytes([fixed[34], fixed[35], fixed[36], fixed[37]]);
            let mut name = vec![0; length(24)];
            self.input.read_exact(&mut name)?;
            let mut rest = vec![0; length(26) + length(28)];
            self.input.read_exact(&mut rest)?;
            if (attributes >> 16) & KINDS == LINK && self.link.is_none() {
                self.link = Some(String::from_utf8_lossy(&name).into_owned());
            }
            if self.u32()? != CENTRAL_HEADER {
                return Ok(());
            }
        }
    }

    fn stored(
        &mut self,
        size: u64,
        crc: &mut Crc,
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let piece = self.input.fill_buf()?;
            if piece.is_empty() {
                return Err(cut_off());
            }
            let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            crc.update(&piece[..length]);
            take(&piece[..length])?;
            self.input.consume(length);
            left -= length as u64;
        }
        Ok(())
    }

    fn deflated(
        &mut self,
        crc: &mut Crc,
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<(u64, u64)> {
        self.inflate.reset(false);
        loop {
            let input = self.input.fill_buf()?;
            let is_end = input.is_empty();
            let (read_before, made_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, &mut self.out, FlushDecompress::None)
                .map_err(|_| broken("an entry cannot be unpacked"))?;
            // Neither is more than the length of a buffer.
            let read = (self.inflate.total_in() - read_before) as usize;
            let made = (self.inflate.total_out() - made_before) as usize;
            self.input.consume(read);
            crc.update(&self.out[..made]);
            take(&self.out[..made])?;
            if status == Status::StreamEnd {
                return Ok((self.inflate.total_in(), self.inflate.total_out()));
            }
            if is_end && made == 0 {
                return Err(cut_off());
            }
        }
    }

    /// What follows an entry's data: checksum and sizes, with a signature or without.
    fn descriptor(&mut self, header: Header, is_zip64: bool) -> io::Result<Header> {
        let first = self.u32()?;
        let crc = if first == DESCRIPTOR {
            self.u32()?
        } else {
            first
        };
        let (packed, size) = if is_zip64 {
            (self.u64()?, self.u64()?)
        } else {
            (u64::from(self.u32()?), u64::from(self.u32()?))
        };
        Ok(Header {
            crc,
            packed,
            size,
            ..header
        })
    }

    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl Header {
    /// Takes the sizes of 64 bits over, when there are any.
    fn read_zip64(&mut self, extra: &[u8]) {
        let mut rest = extra;
        while let [id0, id1, length0, length1, after @ ..] = rest {
            let id = u16::from_le_bytes([*id0, *id1]);
            let length = usize::from(u16::from_le_bytes([*length0, *length1]));
            let Some((field, others)) = after.split_at_checked(length) else {
                return;
            };
            rest = others;
            if id != ZIP64 {
                continue;
            }
            self.is_zip64 = true;
            let mut numbers = field
                .chunks_exact(8)
                .filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
            // Only those are there that have no room in the header, in this order.
            for place in [&mut self.size, &mut self.packed] {
                if *place == LARGEST_32
                    && let Some(number) = numbers.next()
                {
                    *place = number;
                }
            }
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the zip cannot be used: {why}"),
    )
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the zip ends too early")
}
