//! What was asked for, so that each is loaded once.

use crate::Index;
use std::collections::BTreeSet;

/// A file to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The module's name.
    pub module: String,
    /// Where it is, from `/lib/modules/RELEASE`.
    pub path: String,
}

/// What was asked for since the start.
#[derive(Debug)]
pub struct Wanted {
    index: Index,
    loaded: BTreeSet<String>,
    served: BTreeSet<String>,
}

impl Wanted {
    /// Nothing yet.
    pub fn new(index: Index) -> Wanted {
        Wanted { index, loaded: BTreeSet::new(), served: BTreeSet::new() }
    }

    /// Those that the kernel has, by the text of `/proc/modules`, need no loading: to find that out from the file costs
    /// the kernel as much as loading it.
    #[must_use]
    pub fn beside(mut self, proc_modules: &str) -> Wanted {
        // proc(5): name, size, users, who they are, state, address.
        let words = proc_modules.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let live = words.filter(|words| words.get(4) == Some(&"Live"));
        self.loaded.extend(live.map(|words| words[0].to_owned()));
        self
    }

    /// How many modules there are.
    pub fn known(&self) -> usize {
        self.index.known()
    }

    /// The files to load, in order, for a module or an alias such as `crypto-crc32c`.
    pub fn load(&mut self, wanted: &str) -> Vec<File> {
        let order = self.index.order(wanted, &mut self.loaded);
        order.into_iter().map(|(module, path)| File { module: module.into(), path: path.into() }).collect()
    }

    /// The files to load, in order, for a device by its `modalias`; each is looked up once.
    pub fn serve(&mut self, modalias: &str) -> Vec<File> {
        if !self.served.insert(modalias.to_owned()) {
            return Vec::new();
        }
        let wanted: Vec<String> = self.index.for_device(modalias).into_iter().map(str::to_owned).collect();
        wanted.iter().flat_map(|module| self.load(module)).collect()
    }

    /// Whether [`Wanted::serve`] was asked this.
    pub fn was_served(&self, modalias: &str) -> bool {
        self.served.contains(modalias)
    }
}

#[cfg(test)]
mod tests;
