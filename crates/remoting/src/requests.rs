//! The requests of one socket read: each is decoded when it is taken, so that its memory is there for the next one and what
//! was read of it is still at hand in the processor.

use tracing::debug;
use wire::{Command, ExtFields, frame::FrameError};

use crate::{Connection, inbound::Inbound};

/// Commands decoded before what they were answered with is written, and looked at for the high-water mark: what a
/// peer can have queued beyond that mark is bounded by this many answers.
const MOST: usize = 128;

/// The requests of one socket read, in order; a read that brought very many comes in parts.
pub struct Requests<'a> {
    inbound: &'a mut Inbound,
    conn: &'a Connection,
    taken: usize,
    end: Option<End>,
    /// Memory for the fields of the next one.
    fields: ExtFields,
}

/// Why there are no more.
pub(crate) enum End {
    /// More bytes are needed.
    Read,
    /// It is the next part's turn.
    Part,
    /// No frame.
    Bad(FrameError),
}

impl<'a> Requests<'a> {
    pub(crate) fn new(inbound: &'a mut Inbound, conn: &'a Connection) -> Self {
        Self { inbound, conn, taken: 0, end: None, fields: ExtFields::new() }
    }

    /// The next one gets the memory of one that is done with.
    pub fn reuse(&mut self, done: Command) {
        self.fields = done.ext.emptied();
    }

    /// Takes what is left, and tells why it ends.
    pub(crate) fn finish(mut self) -> End {
        loop {
            match (self.next(), self.end.take()) {
                (Some(left), _) => self.reuse(left),
                (None, end) => return end.unwrap_or(End::Read),
            }
        }
    }

    fn command(&mut self) -> Result<Command, End> {
        if self.taken == MOST {
            return Err(End::Part);
        }
        let next = self.inbound.next(&mut self.fields).map_err(End::Bad)?;
        self.taken += 1;
        next.ok_or(End::Read)
    }
}

impl Iterator for Requests<'_> {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        while self.end.is_none() {
            match self.command() {
                Ok(command) if !command.is_response() => {
                    self.conn.received(usize::from(!command.is_oneway()));
                    return Some(command);
                }
                Ok(answer) => {
                    if !self.conn.pending.complete(answer) {
                        debug!(peer = %self.conn.display_peer(), "an answer that nobody waits for");
                    }
                }
                Err(end) => self.end = Some(end),
            }
        }
        None
    }
}
