//! A disk in memory that tells written from durable, and loses what a real one may lose.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use fhirwall::audit::disk::{Disk, DiskFile};

/// A small generator whose every value follows from its seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    WriteFails,
    SyncFails,
    ReadOnly,
    /// No new blocks: what lies within a file's length can still be written.
    Full,
}

#[derive(Clone)]
pub(crate) struct ModelDisk(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    /// The directory as it was when last synced, and its states since.
    durable_names: BTreeMap<String, u64>,
    since: Vec<BTreeMap<String, u64>>,
    next: u64,
    fault: Option<Fault>,
    /// How many more operations happen before the power goes.
    left: Option<u64>,
    holding: bool,
    held: bool,
}

#[derive(Clone, Default)]
struct Inode {
    written: Vec<u8>,
    durable: Vec<u8>,
}

pub(crate) struct Held(ModelDisk);

const SECTOR: usize = 512;

impl ModelDisk {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// The power goes after so many more operations.
    pub(crate) fn die_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    pub(crate) fn fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    pub(crate) fn hold_syncs(&self) -> Held {
        self.state().holding = true;
        Held(self.clone())
    }

    pub(crate) fn wait_for_a_held_sync(&self) {
        let mut state = self.state();
        while !state.held {
            state = self.0.1.wait(state).unwrap();
        }
    }

    /// The disk as the next start finds it: of what was not synced, any sector may be old, new, or never written, the
    /// length anything in between, and of the directory's changes only the first few happened.
    pub(crate) fn after_power_loss(&self, random: &mut Random) -> Self {
        let state = self.state();
        let kept = random.below(state.since.len() as u64 + 1);
        let names = match kept {
            0 => state.durable_names.clone(),
            n => state.since[n as usize - 1].clone(),
        };
        let files = state.files.iter().map(|(id, inode)| {
            let bytes = torn(inode, random);
            (*id, Inode { written: bytes.clone(), durable: bytes })
        });
        let files = files.collect();
        let durable_names = names.clone();
        let new = State { files, names, durable_names, next: state.next, fault: state.fault, ..State::default() };
        Self(Arc::new((Mutex::new(new), Condvar::new())))
    }

    pub(crate) fn write_to(&self, dir: &Path) {
        let state = self.state();
        for (name, id) in &state.names {
            fs::write(dir.join(name), &state.files[id].written).unwrap();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    /// Counts an operation that changes the disk. After the power went, none does.
    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.left {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        match state.fault {
            Some(Fault::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(state),
        }
    }

    fn rename_as(state: &mut State) {
        let names = state.names.clone();
        state.since.push(names);
    }
}

fn torn(inode: &Inode, random: &mut Random) -> Vec<u8> {
    let Inode { written, durable } = inode;
    if written == durable {
        return durable.clone();
    }
    let (short, long) = (written.len().min(durable.len()), written.len().max(durable.len()));
    let len = short + random.below((long - short) as u64 + 1) as usize;
    let mut bytes = vec![0; len];
    for start in (0..len).step_by(SECTOR) {
        let end = (start + SECTOR).min(len);
        let from: &[u8] = if random.below(2) == 0 { written } else { durable };
        for at in start..end {
            // What was durable and was not written over stays; a sector that was allocated only reads as zeros.
            bytes[at] = from.get(at).copied().unwrap_or(0);
        }
    }
    bytes
}

impl Held {
    pub(crate) fn release(self) {
        self.0.state().holding = false;
        self.0.0.1.notify_all();
    }
}

impl Disk for ModelDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[id].written.clone())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.operation()?;
        let id = match state.names.get(name) {
            Some(id) => *id,
            None => {
                let id = state.next;
                state.next += 1;
                state.files.insert(id, Inode::default());
                state.names.insert(name.to_owned(), id);
                Self::rename_as(&mut state);
                id
            }
        };
        Ok(Box::new(ModelFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.operation()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Self::rename_as(&mut state);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operation()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Self::rename_as(&mut state);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.operation()?;
        state.durable_names = state.names.clone();
        state.since.clear();
        Ok(())
    }
}

struct ModelFile {
    disk: ModelDisk,
    id: u64,
}

impl DiskFile for ModelFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.operation()?;
        let fault = state.fault;
        let written = &mut state.files.get_mut(&self.id).unwrap().written;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let room = match fault {
            Some(Fault::Full) => written.len(),
            // Half of it is on the disk when the error comes.
            Some(Fault::WriteFails) => start + bytes.len() / 2,
            Some(Fault::SyncFails | Fault::ReadOnly) | None => end,
        };
        if written.len() < end.min(room) {
            written.resize(end.min(room), 0);
        }
        for (at, byte) in (start..end.min(room)).zip(bytes) {
            written[at] = *byte;
        }
        match fault {
            Some(Fault::Full) if room < end => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::WriteFails) => Err(io::Error::other("EIO")),
            Some(Fault::Full | Fault::SyncFails | Fault::ReadOnly) | None => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.operation()?;
        if state.fault == Some(Fault::SyncFails) {
            return Err(io::Error::other("EIO"));
        }
        while state.holding {
            state.held = true;
            self.disk.0.1.notify_all();
            state = self.disk.0.1.wait(state).unwrap();
        }
        let inode = state.files.get_mut(&self.id).unwrap();
        inode.durable = inode.written.clone();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.operation()?;
        state.files.get_mut(&self.id).unwrap().written.resize(len as usize, 0);
        Ok(())
    }
}

impl fmt::Debug for ModelDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelDisk")
    }
}
