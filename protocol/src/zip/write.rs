use std::io::{self, Read, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use jiff::civil::DateTime;

use super::{
    CENTRAL_HEADER, DEFLATED, DESCRIPTOR, END, LARGEST_32, LOCAL_HEADER, SIZES_FOLLOW, STORED,
    ZIP64, ZIP64_END,
};

/// How much is read and packed at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// Versions of the format that a reader must know: folders and deflate; sizes of 64 bits.
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Flag of an entry: its name is UTF-8.
const UTF_8: u16 = 0x800;
/// MS-DOS attribute of a folder.
const FOLDER: u32 = 0x10;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
/// From this on the number of entries has its place in the zip64 part.
const MANY: u64 = 0xffff;

/// Writes a zip from front to back. Of each entry nothing but its line in the list at the end is
/// kept in memory: its name and 46 bytes.
pub struct ZipWriter<W> {
    out: W,
    /// Bytes written.
    position: u64,
    deflate: Compress,
    read: Vec<u8>,
    packed: Vec<u8>,
    /// The list of entries as it will be written.
    list: Vec<u8>,
    entries: u64,
}

/// An entry that is written.
struct Entry<'a> {
    name: &'a str,
    flags: u16,
    method: u16,
    modified: [u8; 4],
    at: u64,
    attributes: u32,
}

impl<W: Write> ZipWriter<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            position: 0,
            // GoCD: the fastest level.
            deflate: Compress::new(Compression::fast(), false),
            read: vec![0; CHUNK],
            packed: vec![0; CHUNK],
            list: Vec::new(),
            entries: 0,
        }
    }

    /// Adds a folder; its name ends with a slash.
    ///
    /// # Errors
    /// Nothing more can be written, or the name is too long for a zip.
    pub fn folder(&mut self, name: &str, modified: DateTime) -> io::Result<()> {
        let entry = self.begin(name, modified, STORED, FOLDER)?;
        self.list(&entry, 0, 0, 0);
        Ok(())
    }

    /// Adds a file with all that can be read of its content.
    ///
    /// # Errors
    /// As [`ZipWriter::folder`], or the content cannot be read.
    pub fn file(
        &mut self,
        name: &str,
        modified: DateTime,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let entry = self.begin(name, modified, DEFLATED, 0)?;
        let mut crc = Crc::new();
        self.deflate.reset();
        loop {
            let length = match content.read(&mut self.read) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            crc.update(&self.read[..length]);
            if self.pack(length)? == Status::StreamEnd {
                break;
            }
        }
        let (packed, size) = (self.deflate.total_out(), self.deflate.total_in());
        self.u32s(&[DESCRIPTOR, crc.sum()])?;
        // Java's rule, since nothing in front of the data says how large it is.
        if packed > LARGEST_32 || size > LARGEST_32 {
            self.write(&packed.to_le_bytes())?;
            self.write(&size.to_le_bytes())?;
        } else {
            // Neither is larger than a u32.
            self.u32s(&[packed as u32, size as u32])?;
        }
        self.list(&entry, crc.sum(), packed, size);
        Ok(())
    }

    /// Writes the list of entries and returns what is written to.
    ///
    /// # Errors
    /// Nothing more can be written.
    pub fn finish(mut self) -> io::Result<W> {
        let (at, entries) = (self.position, self.entries);
        let list = std::mem::take(&mut self.list);
        let length = list.len() as u64;
        self.write(&list)?;
        if entries >= MANY || at >= LARGEST_32 || length >= LARGEST_32 {
            let end = self.position;
            self.u32s(&[ZIP64_END])?;
            self.write(&44_u64.to_le_bytes())?;
            self.u16s(&[VERSION_ZIP64, VERSION_ZIP64])?;
            self.u32s(&[0, 0])?;
            for number in [entries, entries, length, at] {
                self.write(&number.to_le_bytes())?;
            }
            self.u32s(&[ZIP64_LOCATOR, 0])?;
            self.write(&end.to_le_bytes())?;
            self.u32s(&[1])?;
        }
        self.u32s(&[END])?;
        let count = entries.min(MANY) as u16;
        self.u16s(&[0, 0, count, count])?;
        self.u32s(&[clamped(length), clamped(at)])?;
        self.u16s(&[0])?;
        Ok(self.out)
    }

    fn begin<'a>(
        &mut self,
        name: &'a str,
        modified: DateTime,
        method: u16,
        attributes: u32,
    ) -> io::Result<Entry<'a>> {
        let length = u16::try_from(name.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "its path is longer than a zip allows, 65535 bytes",
            )
        })?;
        let entry = Entry {
            name,
            flags: if method == DEFLATED { SIZES_FOLLOW } else { 0 }
                | if name.is_ascii() { 0 } else { UTF_8 },
            method,
            modified: dos_time(modified),
            at: self.position,
            attributes,
        };
        self.u32s(&[LOCAL_HEADER])?;
        self.u16s(&[VERSION, entry.flags, method])?;
        self.write(&entry.modified)?;
        self.u32s(&[0, 0, 0])?;
        self.u16s(&[length, 0])?;
        self.write(name.as_bytes())?;
        Ok(entry)
    }

    /// Packs the first `length` bytes that were read; none is the end of the content.
    fn pack(&mut self, length: usize) -> io::Result<Status> {
        let flush = if length == 0 {
            FlushCompress::Finish
        } else {
            FlushCompress::None
        };
        let mut taken = 0;
        loop {
            let (read, made) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self
                .deflate
                .compress(&self.read[taken..length], &mut self.packed, flush)
                .map_err(io::Error::other)?;
            // Neither is more than the length of a buffer.
            taken += (self.deflate.total_in() - read) as usize;
            let made = (self.deflate.total_out() - made) as usize;
            self.out.write_all(&self.packed[..made])?;
            self.position += made as u64;
            let is_done = status == Status::StreamEnd
                || (length > 0 && taken == length && made < self.packed.len());
            if is_done {
                return Ok(status);
            }
        }
    }

    /// Notes an entry for the list at the end.
    fn list(&mut self, entry: &Entry<'_>, crc: u32, packed: u64, size: u64) {
        // Only what has no room in its place, in this order.
        let large: Vec<u64> = [size, packed, entry.at]
            .into_iter()
            .filter(|number| *number >= LARGEST_32)
            .collect();
        let version = if large.is_empty() {
            VERSION
        } else {
            VERSION_ZIP64
        };
        let extra = if large.is_empty() {
            0
        } else {
            4 + 8 * large.len() as u16
        };
        let list = &mut self.list;
        list.extend(CENTRAL_HEADER.to_le_bytes());
        for number in [version, version, entry.flags, entry.method] {
            list.extend(number.to_le_bytes());
        }
        list.extend(entry.modified);
        for number in [crc, clamped(packed), clamped(size)] {
            list.extend(number.to_le_bytes());
        }
        // `begin` has seen that the name is not longer.
        for number in [entry.name.len() as u16, extra, 0, 0, 0] {
            list.extend(number.to_le_bytes());
        }
        list.extend(entry.attributes.to_le_bytes());
        list.extend(clamped(entry.at).to_le_bytes());
        list.extend(entry.name.as_bytes());
        if !large.is_empty() {
            list.extend(ZIP64.to_le_bytes());
            list.extend((8 * large.len() as u16).to_le_bytes());
            large
                .iter()
                .for_each(|number| list.extend(number.to_le_bytes()));
        }
        self.entries += 1;
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn u16s(&mut self, numbers: &[u16]) -> io::Result<()> {
        numbers
            .iter()
            .try_for_each(|number| self.write(&number.to_le_bytes()))
    }

    fn u32s(&mut self, numbers: &[u32]) -> io::Result<()> {
        numbers
            .iter()
            .try_for_each(|number| self.write(&number.to_le_bytes()))
    }
}

/// What stands in a place of 32 bits.
fn clamped(number: u64) -> u32 {
    number.min(LARGEST_32) as u32
}

/// Time and date as MS-DOS has them: from 1980 to 2107, every other second.
fn dos_time(at: DateTime) -> [u8; 4] {
    let (year, at) = match at.year() {
        ..1980 => (1980, DateTime::constant(1980, 1, 1, 0, 0, 0, 0)),
        2108.. => (2107, DateTime::constant(2107, 12, 31, 23, 59, 58, 0)),
        year => (year, at),
    };
    // All are positive and small.
    let [month, day, hour, minute, second] =
        [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(i8::cast_unsigned);
    let [month, day, hour, minute, second] = [month, day, hour, minute, second].map(u16::from);
    let time = (hour << 11) | (minute << 5) | (second / 2);
    let date = ((year - 1980).cast_unsigned() << 9) | (month << 5) | day;
    let ([a, b], [c, d]) = (time.to_le_bytes(), date.to_le_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::zip::ZipReader;

    const AT: DateTime = DateTime::constant(2026, 8, 1, 10, 11, 12, 0);

    fn written(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Vec::new());
        zip.folder("d/", AT).unwrap();
        for (name, content) in entries {
            zip.file(name, AT, &mut content.as_slice()).unwrap();
        }
        zip.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut zip = ZipReader::new(bytes);
        let mut found = Vec::new();
        while let Some(name) = zip.next_entry().unwrap() {
            let mut content = Vec::new();
            zip.content(|piece| {
                content.extend(piece);
                Ok(())
            })
            .unwrap();
            found.push((name, content));
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_from_either_end(
            contents in vec(vec(any::<u8>(), 0..3000), 0..5),
            repeated in 0..100_usize,
        ) {
            let entries: Vec<(String, Vec<u8>)> = contents
                .into_iter()
                .enumerate()
                .map(|(n, content)| (format!("d/é {n}"), content.repeat(repeated)))
                .collect();
            let bytes = written(&entries);
            let mut found = read(&bytes);
            prop_assert_eq!(found.remove(0), ("d/".to_owned(), Vec::new()));
            prop_assert_eq!(&found, &entries);
            // A reader that trusts the list at the end alone.
            let mut archive = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
            prop_assert_eq!(archive.len(), entries.len() + 1);
            for (name, content) in &entries {
                let mut file = archive.by_name(name).unwrap();
                let mut found = Vec::new();
                file.read_to_end(&mut found).unwrap();
                prop_assert_eq!(&found, content);
            }
        }
    }

    #[test]
    fn more_entries_than_sixteen_bits_count_are_listed() {
        let mut zip = ZipWriter::new(Vec::new());
        for n in 0..70_000 {
            zip.folder(&format!("{n}/"), AT).unwrap();
        }
        let bytes = zip.finish().unwrap();
        let archive = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(archive.len(), 70_000);
    }

    #[test]
    fn times_are_those_of_ms_dos() {
        let time = |at| u32::from_le_bytes(dos_time(at));
        let date = (46 << 25) | (8 << 21) | (1 << 16);
        assert_eq!(time(AT), date | (10 << 11) | (11 << 5) | 6);
        assert_eq!(time(DateTime::constant(1970, 1, 1, 5, 0, 0, 0)) >> 16, 33);
        assert_eq!(time(DateTime::MAX) >> 25, 127);
    }
}
