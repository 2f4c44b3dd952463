//! Why a call failed. Each text says whom was asked for what, and what came instead.

use remoting::RemotingError;
use wire::{
    Command,
    code::{self, response},
    json::JsonError,
};

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer came.
    #[error("{request} at {addr}: {source}")]
    Call {
        /// Who was asked.
        addr: String,
        /// Name of the request.
        request: &'static str,
        /// Why there is no answer.
        source: RemotingError,
    },
    /// The answer is a refusal.
    #[error("{request} at {addr} answered {code} {}: {remark}", code::response::name(*code))]
    Answer {
        /// Who was asked.
        addr: String,
        /// Name of the request.
        request: &'static str,
        /// Response code.
        code: i32,
        /// The peer's words.
        remark: String,
    },
    /// The answer cannot be used.
    #[error("{request} at {addr}: the answer cannot be used: {why}")]
    Body {
        /// Who was asked.
        addr: String,
        /// Name of the request.
        request: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is nobody to ask.
    #[error("{request}: {why}")]
    Nobody {
        /// Name of the request.
        request: &'static str,
        /// Why there is nobody.
        why: String,
    },
}

impl ClientError {
    /// True when no answer came: the peer cannot be reached, is slow, or closed.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::Nobody { .. })
    }

    /// True when the peer answered and refused.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answer { .. })
    }

    /// True for a refusal that the same question would get again. A peer that is busy, starting or leaving says nothing of what
    /// it was asked.
    pub fn is_final(&self) -> bool {
        let passing =
            [response::SYSTEM_BUSY, response::SERVICE_NOT_AVAILABLE, response::FLOW_CONTROL, response::GO_AWAY];
        self.code().is_some_and(|code| !passing.contains(&code))
    }

    /// The response code of a refusal.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Answer { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn call(addr: &str, request: i32, source: RemotingError) -> Self {
        Self::Call { addr: addr.to_owned(), request: code::request::name(request), source }
    }

    pub(crate) fn answer(addr: &str, request: i32, answer: Command) -> Self {
        let remark = answer.remark.unwrap_or_default();
        Self::Answer { addr: addr.to_owned(), request: code::request::name(request), code: answer.code, remark }
    }

    pub(crate) fn body(addr: &str, request: i32, why: impl Into<String>) -> Self {
        Self::Body { addr: addr.to_owned(), request: code::request::name(request), why: why.into() }
    }

    pub(crate) fn json(addr: &str, request: i32, error: &JsonError) -> Self {
        Self::body(addr, request, error.to_string())
    }

    pub(crate) fn nobody(request: i32, why: impl Into<String>) -> Self {
        Self::Nobody { request: code::request::name(request), why: why.into() }
    }
}
