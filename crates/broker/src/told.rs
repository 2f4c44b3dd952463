//! Work that is done again and again: a failure is said once, and once that it is over. On a full disk the same line would come
//! each second.

use std::fmt::Display;

/// What was said last of one kind of work.
#[derive(Default)]
pub struct Told {
    failing: bool,
}

impl Told {
    /// Says what is new; true when that was something.
    pub fn of(&mut self, result: Result<(), impl Display>, failed: impl Display, over: &str) -> bool {
        let was_failing = std::mem::replace(&mut self.failing, result.is_err());
        match (result, was_failing) {
            (Err(error), false) => tracing::error!("{failed}: {error}"),
            (Ok(()), true) => tracing::info!("{over}"),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_said_once_and_so_is_its_end() {
        let mut told = Told::default();
        let results = [Ok(()), Err("full"), Err("full"), Err("still"), Ok(()), Ok(()), Err("full")];
        let said = results.map(|result| told.of(result, "not saved", "saved again"));
        assert_eq!(said, [false, true, false, false, true, false, true]);
    }
}
