//! One consume queue, for reading: its files as they lie there, its units by place. Reads what is in the files now, so
//! it sees a queue grow; it never trusts a unit.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    config::StoreConfig,
    disk::Disk,
    error::{IoContext, StoreError},
    ext::{self, Ext, ExtUnit, Piece},
    gather::Room,
    handles::Handles,
    queue::{Kind, Unit, decode},
    segments::{self, Found},
    units::UnitContext,
};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The files of one queue.
pub(crate) struct QueueFiles {
    disk: Arc<dyn Disk>,
    handles: Arc<Handles>,
    id: u64,
    pub(crate) topic: Arc<str>,
    pub(crate) queue_id: i32,
    pub(crate) kind: Kind,
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<Found>,
    ext: OnceLock<Ext>,
}

impl QueueFiles {
    /// Lists the files in `dir`.
    pub(crate) fn load(
        disk: &Arc<dyn Disk>,
        handles: &Arc<Handles>,
        (kind, topic, queue_id): (Kind, Arc<str>, i32),
        dir: PathBuf,
    ) -> Result<Self, StoreError> {
        let files = segments::find(&**disk, &dir)?;
        let (disk, handles) = (disk.clone(), handles.clone());
        Ok(Self {
            disk,
            handles,
            id: NEXT_ID.fetch_add(1, Relaxed),
            topic,
            queue_id,
            kind,
            dir,
            files,
            ext: OnceLock::new(),
        })
    }

    /// Lists the files again.
    pub(crate) fn refresh(&mut self) -> Result<(), StoreError> {
        self.files = segments::find(&*self.disk, &self.dir)?;
        Ok(())
    }

    /// Place of the first unit that a file has.
    pub(crate) fn start(&self) -> i64 {
        self.files.first().map_or(0, |first| first.base / self.unit())
    }

    /// Bytes of a unit.
    pub(crate) fn unit(&self) -> i64 {
        self.kind.unit_size() as i64
    }

    /// Bytes of a file, as most of them have.
    pub(crate) fn file_size(&self) -> u64 {
        self.files.first().map_or(0, |first| first.len)
    }

    /// Fills `buf` with units from `place` on, at most `count`, not beyond a file's end. Returns how many.
    pub(crate) fn read(&self, place: i64, count: usize, buf: &mut Vec<u8>) -> Result<usize, StoreError> {
        buf.clear();
        let at = place * self.unit();
        let after = self.files.partition_point(|file| file.base <= at);
        let Some(file) = after.checked_sub(1).map(|number| self.files[number]) else { return Ok(0) };
        let room = (file.base + file.len as i64 - at) / self.unit();
        let count = count.min(room.max(0) as usize);
        if count == 0 {
            return Ok(0);
        }
        let path = segments::path(&self.dir, file.base);
        let open = match self.handles.get((self.id, file.base as u64), || self.disk.open_read(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.at("open", &path)?,
        };
        buf.resize(count * self.kind.unit_size(), 0);
        let mut done = 0;
        while done < buf.len() {
            match open.read_at((at - file.base) as u64 + done as u64, &mut buf[done..]).at("read", &path)? {
                0 => break,
                read => done += read,
            }
        }
        buf.truncate(done / self.kind.unit_size() * self.kind.unit_size());
        Ok(done / self.kind.unit_size())
    }

    /// The unit at a place, if one was written there.
    pub(crate) fn unit_at(&self, place: i64) -> Result<Option<Unit>, StoreError> {
        let mut buf = Vec::new();
        if self.read(place, 1, &mut buf)? == 0 || !self.is_valid(&buf) {
            return Ok(None);
        }
        Ok(Some(decode(self.kind, place, &buf)))
    }

    /// The tags code of a unit, from the extension if need be; `None` where the address leads nowhere.
    pub(crate) fn tags_code(&self, unit: &Unit) -> Result<Option<i64>, StoreError> {
        if !self.is_extended(unit) {
            return Ok(Some(unit.tags_code));
        }
        Ok(self.ext()?.unit(unit.tags_code)?.map(|unit| unit.tags_code))
    }

    /// True when the unit says where it goes on, instead of a tags code.
    pub(crate) fn is_extended(&self, unit: &Unit) -> bool {
        self.kind == Kind::Simple && ext::is_address(unit.tags_code)
    }

    /// Where an extended unit goes on; `None` where its address leads nowhere.
    pub(crate) fn extension(&self, unit: &Unit, buf: &mut Piece) -> Result<Option<ExtUnit>, StoreError> {
        self.ext()?.unit_in_row(unit.tags_code, buf)
    }

    fn ext(&self) -> Result<&Ext, StoreError> {
        if let Some(ext) = self.ext.get() {
            return Ok(ext);
        }
        let ext = Ext::load(&self.context(), self.id, ext::dir_of(&self.dir).unwrap_or_default())?;
        Ok(self.ext.get_or_init(|| ext))
    }

    fn context(&self) -> Arc<UnitContext> {
        let (disk, handles, ext) = (self.disk.clone(), Handles::new(1), StoreConfig::default().ext());
        let (room, file_system) = (Room::new(0, 0), None);
        Arc::new(UnitContext { disk, handles, next_id: AtomicU64::new(1), clean: true, ext, room, file_system })
    }

    /// Tells a written unit from zeros.
    pub(crate) fn is_valid(&self, bytes: &[u8]) -> bool {
        (self.kind.shape(1).is_valid)(bytes)
    }

    /// Place behind the last written unit: the last file whose first unit is written decides; in it the written ones
    /// come first.
    pub(crate) fn end(&self) -> Result<i64, StoreError> {
        for file in self.files.iter().rev() {
            let first = file.base / self.unit();
            if self.unit_at(first)?.is_some() {
                return self.partition(first, first + file.len as i64 / self.unit(), |unit| unit.is_none());
            }
        }
        Ok(self.start())
    }

    /// The first place in [`from`, `to`) for which `after` holds, or `to`; `after` must not turn false again.
    pub(crate) fn partition(
        &self,
        from: i64,
        to: i64,
        after: impl Fn(Option<Unit>) -> bool,
    ) -> Result<i64, StoreError> {
        let (mut low, mut high) = (from, to.max(from));
        while low < high {
            let middle = low + (high - low) / 2;
            if after(self.unit_at(middle)?) { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    /// Place of the first unit whose record is at or beyond `physical`.
    pub(crate) fn first_at(&self, physical: i64, end: i64) -> Result<i64, StoreError> {
        self.partition(self.start(), end, |unit| {
            unit.is_none_or(|unit| unit.physical_offset >= physical && !(unit.is_filler() && unit.physical_offset == 0))
        })
    }

    /// What it is called in reports.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.topic, self.queue_id)
    }
}
