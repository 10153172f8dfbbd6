use crate::library::extent_path;
use boot::Digest;
use image::Blocks;
use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Files that are kept open at most.
const MOST: u64 = 4096;

/// The extents of a library, some of them kept open: whatever images are read, no more than 4096, and no more
/// than a quarter of the files that the process may have open when this is made. Its clones are the same.
#[derive(Clone, Debug)]
pub struct Extents(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    root: PathBuf,
    open: Box<[Mutex<Option<KeptOpen>>]>,
}

type KeptOpen = (Digest, Arc<File>);

impl Extents {
    pub(super) fn new(root: PathBuf) -> Extents {
        let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let open = (0..(allowed / 4).clamp(16, MOST)).map(|_| Mutex::new(None)).collect();
        Extents(Arc::new(Kept { root, open }))
    }

    /// The file of an extent.
    ///
    /// # Errors
    /// It cannot be opened; the error names it.
    pub fn file(&self, digest: &Digest) -> io::Result<Arc<File>> {
        let [first, second, ..] = digest.0;
        let place = &self.0.open[usize::from(u16::from_le_bytes([first, second])) % self.0.open.len()];
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Some((kept, file)) if kept == digest => Ok(file.clone()),
            _ => {
                let path = extent_path(&self.0.root, digest);
                let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
                let file = Arc::new(File::open(&path).map_err(named)?);
                *place = Some((*digest, file.clone()));
                Ok(file)
            }
        }
    }
}

impl Blocks for Extents {
    type Error = io::Error;

    fn get(&self, digest: &Digest, skip: usize, into: &mut [u8]) -> io::Result<()> {
        self.file(digest)?.read_exact_at(into, skip as u64)
    }
}
