//! Frames that Java made, for the tests. See `tests/data/README.md`.

#![allow(dead_code)] // Each test file uses a part of it.

use std::{fs, path::Path};

use bytes::{Bytes, BytesMut};
use wire::{Command, frame, json::Json};

/// One line of a capture.
pub struct Captured {
    /// File and line.
    pub place: String,
    /// Name of the request code.
    pub name: String,
    /// `request`, `response` or `oneway`.
    pub kind: String,
    /// The whole frame, its length word included.
    pub bytes: Bytes,
}

impl Captured {
    /// The frame decoded.
    pub fn command(&self) -> Command {
        decode(&self.bytes)
    }

    /// True when the header is JSON.
    pub fn is_json(&self) -> bool {
        self.bytes[4] == 0
    }
}

/// Decodes one whole frame.
pub fn decode(bytes: &Bytes) -> Command {
    let mut buffer = BytesMut::from(&bytes[..]);
    let frame = frame::split_frame(&mut buffer, frame::MAX_FRAME).unwrap().unwrap();
    assert!(buffer.is_empty());
    frame::decode(frame).unwrap()
}

/// A frame around a JSON header.
pub fn json_frame(header: &[u8], body: &[u8]) -> Bytes {
    let mut bytes = ((4 + header.len() + body.len()) as u32).to_be_bytes().to_vec();
    bytes.extend((header.len() as u32).to_be_bytes());
    bytes.extend(header);
    bytes.extend(body);
    bytes.into()
}

/// Every captured frame.
pub fn captured() -> Vec<Captured> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/frames");
    let mut all = Vec::new();
    for directory in paths(&root) {
        for file in paths(&directory).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl")) {
            all.extend(lines(&directory, &file));
        }
    }
    assert_eq!(all.len(), 850);
    all
}

fn paths(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn lines(directory: &Path, file: &Path) -> Vec<Captured> {
    let text = fs::read_to_string(file).unwrap();
    let line = |(at, line): (usize, &str)| {
        let json = Json::parse(line.as_bytes()).unwrap();
        let text = |name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
        let mut bytes = unhex(&text("frame").or_else(|| text("head")).unwrap());
        if let Some(body) = text("bodyFile") {
            bytes.extend(fs::read(directory.join(body)).unwrap());
        }
        let place = format!("{}:{}", file.display(), at + 1);
        Captured { place, name: text("name").unwrap(), kind: text("kind").unwrap(), bytes: bytes.into() }
    };
    text.lines().enumerate().map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A small generator of numbers that look random (xorshift), so that failures repeat.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }
}
