//! Zips as streams: read from front to back and written so, with nothing kept of their content. They
//! are what artifacts are published and fetched in.
//!
//! A zip has its list of entries at the end, and libraries want to seek to it. GoCD's programs do
//! not (they use Java's `ZipInputStream` and `ZipOutputStream`), so a zip of any size passes
//! through them without a file of its own. These two do the same, and read each other's form:
//! deflated entries whose sizes follow their data.

mod read;
mod write;

pub use {read::ZipReader, write::ZipWriter};

/// Signatures of the parts of a zip.
const LOCAL_HEADER: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
/// Flag of an entry: encrypted.
const ENCRYPTED: u16 = 1;
/// Flag of an entry: its sizes follow its data.
const SIZES_FOLLOW: u16 = 8;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Kinds of files, in the upper half of an entry's attributes: all, and symbolic links.
const KINDS: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
/// Id of the extra field with sizes of 64 bits.
const ZIP64: u16 = 1;
/// Sizes up to this one have 32 bits. Java: by the bytes that were counted, whatever the header
/// said, an entry beyond it has sizes of 64 bits behind its data.
const LARGEST_32: u64 = 0xffff_ffff;
