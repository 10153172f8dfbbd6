use super::shelf::extent_path;
use boot::Digest;
use image::{Blocks, Manifest, Piece};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// An image that is open for reading. Its octets are given as they are on the disk: who must be sure of
/// them compares them with the manifest.
#[derive(Debug)]
pub struct Reader {
    root: PathBuf,
    id: Digest,
    manifest: Manifest,
}

impl Reader {
    pub(super) fn new(root: &Path, id: Digest, manifest: Manifest) -> Reader {
        Reader { root: root.to_owned(), id, manifest }
    }

    /// Its name.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Octets of the disk it describes.
    pub fn size(&self) -> u64 {
        self.manifest.size()
    }

    /// Fills `into` with octets from `offset` on; gives how many there were, fewer than asked for only at
    /// the end.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        image::read_at(&self.manifest, self, offset, into)
    }

    /// The file of an extent.
    ///
    /// # Errors
    /// It cannot be opened; the error names it and says what to do.
    pub fn extent(&self, digest: &Digest) -> io::Result<File> {
        let path = extent_path(&self.root, digest);
        File::open(&path).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("extent {} of image {}: {e}; import the image again", path.display(), self.id),
            )
        })
    }

    /// The piece of the image that begins at `range`'s start.
    pub fn piece(&self, range: core::ops::Range<u64>) -> Option<Piece> {
        self.manifest.piece(range)
    }
}

impl Blocks for Reader {
    type Error = io::Error;

    fn get(&self, digest: &Digest, skip: usize, into: &mut [u8]) -> io::Result<()> {
        self.extent(digest)?.read_exact_at(into, skip as u64)
    }
}
