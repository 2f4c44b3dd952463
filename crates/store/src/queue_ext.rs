//! A consume queue and its extension: which tags code a unit stands for, and units that get addresses. It reads no record.

use std::borrow::Cow;

use wire::topic;

use crate::{
    error::StoreError,
    ext::{self, Ext},
    queue::{Kind, Queue, SIMPLE_UNIT, Unit, get_i64},
};

/// Byte of a simple unit where its tags code stands.
const AT_CODE: usize = 12;
/// Units at the end of a queue that are looked at for an address.
const MOST_UNITS: i64 = 10_000;

impl Queue {
    /// The tags code of a unit of this queue, from the extension if need be; `None` where it is lost.
    pub(crate) fn tags_code(&self, unit: &Unit) -> Option<i64> {
        if self.kind() == Kind::Batch || !ext::is_address(unit.tags_code) {
            return Some(unit.tags_code);
        }
        match self.ext().and_then(|ext| ext.map_or(Ok(None), |ext| ext.unit(unit.tags_code))) {
            Ok(found) => found.map(|found| found.tags_code),
            Err(error) => {
                tracing::error!(topic = %self.topic(), queue_id = self.queue_id(), offset = unit.queue_offset, %error, "the consume queue extension cannot be read: the message is filtered by what it says itself");
                None
            }
        }
    }

    /// The extension; `None` for a queue that cannot have one.
    fn ext(&self) -> Result<Option<&Ext>, StoreError> {
        if let Some(ext) = self.ext.get() {
            return Ok(Some(ext));
        }
        let Some(dir) = ext::dir_of(self.units().dir()).filter(|_| self.kind() == Kind::Simple) else {
            return Ok(None);
        };
        let ext = Ext::load(self.units().context(), self.id(), dir)?;
        Ok(Some(self.ext.get_or_init(|| Box::new(ext))))
    }

    /// The extension, if it has files. Queues without one cost a look at a directory the first time.
    fn filled_ext(&self) -> Result<Option<&Ext>, StoreError> {
        Ok(self.ext()?.filter(|ext| !ext.is_empty()))
    }

    /// Units as they are written: with addresses, if there is to be an extension.
    pub(crate) fn with_ext<'a>(
        &self,
        units: &'a [u8],
        store_time: &dyn Fn(i64) -> i64,
    ) -> Result<Cow<'a, [u8]>, StoreError> {
        let is_light = || self.topic().starts_with(topic::LMQ_PREFIX);
        if !self.units().context().ext.written || is_light() {
            return Ok(units.into());
        }
        let Some(ext) = self.ext()? else { return Ok(units.into()) };
        let messages: Vec<_> = units
            .chunks_exact(SIMPLE_UNIT)
            .map(|unit| (get_i64(unit, AT_CODE), store_time(get_i64(unit, 0))))
            .collect();
        let addresses = ext.append(|| self.last_address(), &messages)?;
        let mut extended = units.to_vec();
        for (unit, address) in extended.chunks_exact_mut(SIMPLE_UNIT).zip(addresses) {
            unit[AT_CODE..].copy_from_slice(&address.to_be_bytes());
        }
        Ok(extended.into())
    }

    /// Whether what is there is `unit` with an address that leads to the same tags code.
    pub(crate) fn is_extended(&self, found: &[u8], unit: &[u8]) -> bool {
        let code = get_i64(found, AT_CODE);
        let found_code = || {
            let ext = self.ext().ok().flatten()?;
            Some(ext.unit(code).ok()??.tags_code)
        };
        found[..AT_CODE] == unit[..AT_CODE] && ext::is_address(code) && found_code() == Some(get_i64(unit, AT_CODE))
    }

    /// The newest address.
    fn last_address(&self) -> Result<Option<i64>, StoreError> {
        let (start, end) = (self.units().start(), self.units().end());
        for number in (start.max(end - MOST_UNITS)..end).rev() {
            if let Some(unit) = self.unit_at(number)?.filter(|unit| ext::is_address(unit.tags_code)) {
                return Ok(Some(unit.tags_code));
            }
        }
        Ok(None)
    }

    /// The queue was cut: what no unit leads to goes.
    pub(crate) fn truncate_ext(&self) -> Result<(), StoreError> {
        let Some(ext) = self.filled_ext()? else { return Ok(()) };
        match self.last_address()? {
            Some(last) => ext.truncate(last),
            None if self.units().end() == self.units().start() => ext.clear(),
            None => Ok(()),
        }
    }

    /// First units are gone: the files that only they led to go.
    pub(crate) fn expire_ext(&self) -> Result<(), StoreError> {
        let Some(ext) = self.filled_ext()? else { return Ok(()) };
        let first = self.unit_of(self.min())?.filter(|unit| ext::is_address(unit.tags_code));
        first.map_or(Ok(()), |first| ext.expire(first.tags_code))
    }

    /// Deletes all files.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        self.units().clear()?;
        self.filled_ext()?.map_or(Ok(()), Ext::clear)
    }

    /// Makes durable what was written; what units lead to first.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.ext.get().map_or(Ok(()), |ext| ext.sync())?;
        self.units().sync()
    }

    /// Nothing of it counts as durable before the next sync.
    pub(crate) fn distrust(&self) {
        if let Some(ext) = self.ext.get() {
            ext.distrust();
        }
        self.units().distrust();
    }

    /// What was written counts as durable from here on: the caller makes it so, or ends.
    pub(crate) fn take_unsynced(&self) {
        if let Some(ext) = self.ext.get() {
            ext.take_unsynced();
        }
        self.units().take_unsynced();
    }
}
