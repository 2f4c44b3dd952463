//! Directories of the simulated disk: what is durable, what only the running system knows, and the changes between.

use std::{collections::BTreeMap, io, path::Path};

use crate::common::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Dir(usize),
    File(usize),
}

/// A change of the names in one directory.
#[derive(Clone, Debug)]
pub enum Naming {
    Create(String, Node),
    Remove(String),
    Rename(String, String),
    /// Into another directory, at once for both.
    Move(String, usize, String),
}

impl Naming {
    /// The other directory that it changes.
    fn other(&self) -> Option<usize> {
        match self {
            Self::Move(_, to, _) => Some(*to),
            _ => None,
        }
    }
}

#[derive(Clone, Default)]
struct Dir {
    durable: BTreeMap<String, Node>,
    now: BTreeMap<String, Node>,
}

/// All directories; number 0 is the root, which is always there.
pub struct Names {
    root: std::path::PathBuf,
    dirs: Vec<Dir>,
    pending: Vec<(usize, Naming)>,
}

/// Applies a change to the names that `of` chooses: those that are durable, or those of now.
fn apply(dirs: &mut [Dir], of: fn(&mut Dir) -> &mut BTreeMap<String, Node>, dir: usize, naming: &Naming) {
    let names = of(&mut dirs[dir]);
    match naming {
        Naming::Create(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Remove(name) => drop(names.remove(name)),
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Naming::Move(from, other, to) => {
            if let Some(node) = names.remove(from) {
                of(&mut dirs[*other]).insert(to.clone(), node);
            }
        }
    }
}

fn durable(dir: &mut Dir) -> &mut BTreeMap<String, Node> {
    &mut dir.durable
}

fn now(dir: &mut Dir) -> &mut BTreeMap<String, Node> {
    &mut dir.now
}

pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Names {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), dirs: vec![Dir::default()], pending: Vec::new() }
    }

    pub fn find(&self, path: &Path) -> Option<Node> {
        let mut node = Node::Dir(0);
        for part in path.strip_prefix(&self.root).ok()? {
            let Node::Dir(dir) = node else { return None };
            node = *self.dirs[dir].now.get(part.to_str()?)?;
        }
        Some(node)
    }

    pub fn dir(&self, path: &Path) -> io::Result<usize> {
        match self.find(path) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Names in a directory.
    pub fn entries(&self, dir: usize) -> &BTreeMap<String, Node> {
        &self.dirs[dir].now
    }

    /// Changes the names of the directory that holds `path`.
    pub fn change(&mut self, path: &Path, naming: Naming) -> io::Result<()> {
        let dir = self.dir(path.parent().unwrap())?;
        apply(&mut self.dirs, now, dir, &naming);
        self.pending.push((dir, naming));
        Ok(())
    }

    /// Makes a directory; its parent is there.
    pub fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        self.dirs.push(Dir::default());
        self.change(path, Naming::Create(name_of(path), Node::Dir(self.dirs.len() - 1)))
    }

    /// Names directly in the directory become durable, and what was changed before one of them came from elsewhere.
    pub fn sync(&mut self, dir: usize) {
        let touches = |(of, naming): &(usize, Naming)| *of == dir || naming.other() == Some(dir);
        let moves = |change: &(usize, Naming)| touches(change) && change.1.other().is_some();
        let before = self.pending.iter().rposition(moves).map_or(0, |last| last + 1);
        let (mut rest, mut number) = (Vec::new(), 0);
        for change in std::mem::take(&mut self.pending) {
            number += 1;
            match number <= before || touches(&change) {
                true => apply(&mut self.dirs, durable, change.0, &change.1),
                false => rest.push(change),
            }
        }
        self.pending = rest;
    }

    /// All names become durable.
    pub fn sync_all(&mut self) {
        for (dir, naming) in std::mem::take(&mut self.pending) {
            apply(&mut self.dirs, durable, dir, &naming);
        }
    }

    /// The power went: of all changes the first ones are kept, or of each directory the first ones.
    pub fn lose(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let as_a_journal = random.below(2) == 0;
        let kept = random.below(pending.len() as u64 + 1) as usize;
        let mut stopped = vec![false; self.dirs.len()];
        for (number, (dir, naming)) in pending.iter().enumerate() {
            let stops = if as_a_journal { number >= kept } else { random.below(4) == 0 };
            let other = naming.other().unwrap_or(*dir);
            let is_lost = stops || stopped[*dir] || stopped[other];
            (stopped[*dir], stopped[other]) = (is_lost, is_lost || stopped[other]);
            if !is_lost {
                apply(&mut self.dirs, durable, *dir, naming);
            }
        }
        self.dirs.iter_mut().for_each(|dir| dir.now.clone_from(&dir.durable));
    }
}
