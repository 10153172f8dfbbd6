//! Importing images: `Library::import` beside the tool that unpacks the same file into a raw one.
//!
//!     cargo bench --profile dev -p bootd --bench library
//!
//! A line for each format: MB of content a second, and the ratio to the peer, which checks less and keeps
//! no digests. Both write to the temporary directory.

use bootd::library::Library;
use image::Terms;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Half of it compresses to a third, a quarter is noise, a quarter holes.
const SIZE: u64 = 256 << 20;

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed().as_secs_f64(), done)
}

fn shell(directory: &Path, command: &str) -> bool {
    let done = Command::new("bash").args(["-ec", command]).current_dir(directory).status();
    done.is_ok_and(|status| status.success())
}

fn main() {
    let directory = std::env::temp_dir().join(format!("kiln-library-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the temporary directory takes directories");
    let quarter = SIZE / 4;
    let make = format!(
        "head -c {quarter} /dev/urandom > noise; truncate -s {SIZE} raw; \
         dd if=noise of=raw bs=1M conv=notrunc status=none; \
         base64 -w 0 noise | head -c {} | dd of=raw bs=1M seek={} conv=notrunc status=none",
        2 * quarter,
        quarter >> 20
    );
    assert!(shell(&directory, &make), "coreutils make the content");
    println!("{:<22} {:>12} {:>12} {:>8}", "format", "import MB/s", "peer MB/s", "ratio");
    for (name, pack, peer) in [
        ("raw (cp)", "cp --sparse=always raw packed", "cp --sparse=always packed out"),
        ("gzip (gzip -d)", "gzip -1 -c raw > packed", "gzip -dc packed > out"),
        ("zstd (zstd -d)", "zstd -q -3 -c raw > packed", "zstd -q -f -dc packed > out"),
        ("xz (xz -d)", "xz -0 -T2 -c raw > packed", "xz -dc packed > out"),
        ("qcow2 (qemu-img)", "qemu-img convert -O qcow2 raw packed", "qemu-img convert -O raw packed out"),
        (
            "qcow2 -c (qemu-img)",
            "qemu-img convert -c -O qcow2 raw packed",
            "qemu-img convert -O raw packed out",
        ),
    ] {
        if !shell(&directory, pack) {
            println!("{name}: the tool is not installed, left out");
            continue;
        }
        let library = Library::new(directory.join("library"));
        let packed = File::open(directory.join("packed")).expect("it was just packed");
        let (ours, imported) = seconds(|| library.import(packed, &Terms::default(), &mut |_| {}));
        let imported = imported.expect("what a tool packed is imported");
        let (theirs, fine) = seconds(|| shell(&directory, &format!("{peer}; sync -f .")));
        assert!(fine, "{peer}");
        library.remove(&imported.id).expect("it was just imported");
        let speed = |seconds: f64| SIZE as f64 / seconds / 1e6;
        println!("{name:<22} {:>12.0} {:>12.0} {:>8.2}", speed(ours), speed(theirs), theirs / ours);
    }
    if let Err(error) = fs::remove_dir_all(&directory) {
        println!("{} stays: {error}", directory.display());
    }
}
