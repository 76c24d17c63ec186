//! What a launcher asks a test's server.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
};

/// A request, read to its end: an answer before it would break the connection. One that was cut off
/// comes from a launcher that ended while it asked, and has no path or a body that is cut off.
pub(crate) struct Request {
    pub(crate) path: String,
    head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn read(stream: &TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let head: Vec<String> = reader
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let path = head.first().and_then(|line| line.split(' ').nth(1));
        let mut request = Self {
            path: path.unwrap_or_default().to_owned(),
            head,
            body: Vec::new(),
        };
        let length = request.header("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        let _ = reader.take(length).read_to_end(&mut request.body);
        request
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}
