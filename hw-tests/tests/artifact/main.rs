//! The artifacts: made, and booted by an emulated machine on a network of its own (QEMU's user mode).

mod appliance;
mod debian;
mod machine;
mod ramdisk;
mod san;
mod setup;
mod signature;
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of one test's; kept, as evidence, unless the test says that it [`passed`](Folder::passed).
struct Folder {
    path: PathBuf,
    passed: bool,
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("artifact-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self { path, passed: false }
    }

    fn passed(mut self) {
        self.passed = true;
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.passed {
            let _ = fs::remove_dir_all(&self.path);
        } else {
            eprintln!("evidence kept in {}", self.path.display());
        }
    }
}
