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

fn apply(names: &mut BTreeMap<String, Node>, naming: &Naming) {
    match naming {
        Naming::Create(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Remove(name) => drop(names.remove(name)),
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
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
        apply(&mut self.dirs[dir].now, &naming);
        self.pending.push((dir, naming));
        Ok(())
    }

    /// Makes a directory; its parent is there.
    pub fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        self.dirs.push(Dir::default());
        self.change(path, Naming::Create(name_of(path), Node::Dir(self.dirs.len() - 1)))
    }

    /// Names directly in the directory become durable.
    pub fn sync(&mut self, dir: usize) {
        let (durable, rest): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|(of, _)| *of == dir);
        self.pending = rest;
        durable.iter().for_each(|(_, naming)| apply(&mut self.dirs[dir].durable, naming));
    }

    /// The power went: of all changes the first ones are kept, or of each directory the first ones.
    pub fn lose(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let as_a_journal = random.below(2) == 0;
        let kept = random.below(pending.len() as u64 + 1) as usize;
        let mut stopped = vec![false; self.dirs.len()];
        for (number, (dir, naming)) in pending.iter().enumerate() {
            stopped[*dir] |= if as_a_journal { number >= kept } else { random.below(4) == 0 };
            if !stopped[*dir] {
                apply(&mut self.dirs[*dir].durable, naming);
            }
        }
        self.dirs.iter_mut().for_each(|dir| dir.now.clone_from(&dir.durable));
    }
}
