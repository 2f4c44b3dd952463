//! One remoting command: header fields, `extFields` and body. See [`crate::frame`] for its bytes.
//! Source: `remoting/.../protocol/RemotingCommand.java`, reference remoting 2.

use bytes::Bytes;

use crate::{ExtFields, code::response, header::ExtHeader};

/// The version we announce: ordinal of V5_3_3 in upstream's `MQVersion`, the newest that both 5.3.3 and 5.5.0 peers
/// know. Clients look for minimum versions, so a higher one would promise what is not there.
pub const CURRENT_VERSION: i32 = 479;

/// `V5_3_1` in upstream's list; clients after it connect anew when they hear GO_AWAY and ask once more.
const LAST_WITHOUT_GO_AWAY: i32 = 475;

pub(crate) const FLAG_RESPONSE: i32 = 1;
const FLAG_ONEWAY: i32 = 2;

/// How a header is written (`SerializeType.java`). The number is the first byte of the header length word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SerializeType {
    /// JSON text; every peer reads it.
    #[default]
    Json = 0,
    /// The binary form. Its codes are 16 bits wide.
    RocketMq = 1,
}

macro_rules! languages {
    ($($variant:ident = $number:literal $name:literal),* $(,)?) => {
        /// `LanguageCode.java`. A name or number that is not known reads as [`Language::Other`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Language { #[default] $($variant = $number),* }
        impl Language {
            /// The name in a JSON header.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }
            /// From the name, in any case.
            pub fn from_name(name: &str) -> Self {
                $(if name.eq_ignore_ascii_case($name) { return Self::$variant; })*
                Self::Other
            }
            /// From the number of a binary header.
            pub fn from_number(number: i32) -> Self { match number { $($number => Self::$variant,)* _ => Self::Other } }
        }
    };
}

languages! {
    Java = 0 "JAVA", Cpp = 1 "CPP", Dotnet = 2 "DOTNET", Python = 3 "PYTHON", Delphi = 4 "DELPHI", Erlang = 5 "ERLANG",
    Ruby = 6 "RUBY", Other = 7 "OTHER", Http = 8 "HTTP", Go = 9 "GO", Php = 10 "PHP", Oms = 11 "OMS", Rust = 12 "RUST",
    NodeJs = 13 "NODE_JS",
}

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Request or response code.
    pub code: i32,
    /// Language of the sender.
    pub language: Language,
    /// Version of the sender, an ordinal of `MQVersion`.
    pub version: i32,
    /// Correlates a response with its request on one connection.
    pub opaque: i32,
    /// Bit 0: response; bit 1: one-way.
    pub flag: i32,
    /// Text for people.
    pub remark: Option<String>,
    /// The custom header and what hooks added.
    pub ext: ExtFields,
    /// True when the header carried `extFields`, even an empty one.
    pub has_ext: bool,
    /// How the header was or shall be written.
    pub serialize: SerializeType,
    /// Opaque bytes after the header; empty when there are none.
    pub body: Bytes,
}

impl Command {
    /// A request of `code` without header fields. The connection that sends it sets `opaque`.
    pub fn request(code: i32) -> Self {
        Self { code, version: CURRENT_VERSION, ..Self::default() }
    }

    /// A request with the fields of `header`.
    pub fn request_with(code: i32, header: &impl ExtHeader) -> Self {
        let mut request = Self::request(code);
        request.set_header(header);
        request
    }

    /// The response to `self`: same opaque, and binary only when the request was (old clients cannot read a binary
    /// answer to a JSON request).
    pub fn response(&self, code: i32) -> Self {
        Self {
            code,
            version: CURRENT_VERSION,
            opaque: self.opaque,
            flag: FLAG_RESPONSE,
            serialize: self.serialize,
            ..Self::default()
        }
    }

    /// A response with an explanation.
    pub fn error(&self, code: i32, remark: impl Into<String>) -> Self {
        Self { remark: Some(remark.into()), ..self.response(code) }
    }

    /// A successful response without anything.
    pub fn ok(&self) -> Self {
        self.response(response::SUCCESS)
    }

    /// A successful response with a body.
    pub fn ok_body(&self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self.ok() }
    }

    /// Appends the fields of `header` to `extFields`.
    pub fn set_header(&mut self, header: &impl ExtHeader) {
        header.write_ext(&mut self.ext);
        self.has_ext = true;
    }

    /// Same, by value.
    pub fn with_header(mut self, header: &impl ExtHeader) -> Self {
        self.set_header(header);
        self
    }

    /// Same, for the body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Reads `extFields` as a header: absent or unreadable fields have their default, as in Java.
    pub fn header<H: ExtHeader>(&self) -> H {
        H::read_ext(&self.ext)
    }

    /// True for a response.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// True when the sender wants no answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The answer of a server that is about to stop, for whoever waits for one and understands it. `None` for a request
    /// that is served as ever: Java drops those that want no answer. Source: `NettyRemotingAbstract.java`; reference
    /// remoting 6.
    pub fn go_away(&self) -> Option<Self> {
        let understands = !self.is_oneway() && self.version > LAST_WITHOUT_GO_AWAY;
        understands.then(|| self.error(response::GO_AWAY, "please go away"))
    }

    /// Marks a request as one-way.
    pub fn mark_oneway(&mut self) {
        self.flag |= FLAG_ONEWAY;
    }
}
