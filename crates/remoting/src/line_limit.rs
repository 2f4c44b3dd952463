//! Lines that peers cause: one that misbehaves must not fill the log. Writes none itself.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

const SPAN: Duration = Duration::from_secs(60);

/// Lines of one kind: so many a minute, and the next one after that says how many were left out.
pub struct LineLimit {
    most: u32,
    state: Mutex<State>,
}

struct State {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// How many lines were left out before this one; as text nothing where none was.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut(u64);

impl LineLimit {
    /// At most `most` lines a minute.
    pub const fn new(most: u32) -> Self {
        Self { most, state: Mutex::new(State { since: None, lines: 0, left_out: 0 }) }
    }

    /// Asked before each line; `None`: it is left out.
    pub fn take(&self) -> Option<LeftOut> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (state.since, state.lines) = (Some(now), 0);
        }
        if state.lines == self.most {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(LeftOut(std::mem::take(&mut state.left_out)))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} lines like this one were left out)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_a_minute_and_then_how_many_were_left_out() {
        let limit = LineLimit::new(2);
        let taken = || limit.take().map(|left_out| left_out.to_string());
        assert_eq!([taken(), taken(), taken(), taken()], [Some(String::new()), Some(String::new()), None, None]);
        tokio::time::advance(SPAN).await;
        assert_eq!(taken().as_deref(), Some(" (2 lines like this one were left out)"));
        assert_eq!([taken(), taken()], [Some(String::new()), None]);
    }
}
