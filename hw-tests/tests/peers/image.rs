//! Images as other people's tools pack them.

use bootd::library::{Imported, Library, LibraryError};
use image::{Format, ImportError, Sum, Terms};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that is removed in the end.
struct Bench {
    directory: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Bench {
    /// With `disk.raw`: 24 MiB and two sectors, an ext4 file system with a few files, noise, and holes.
    fn new(name: &str) -> Bench {
        let directory = std::env::temp_dir().join(format!("kiln-image-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let bench = Bench { directory };
        bench.shell(
            "truncate -s $((24 * 1048576 + 1024)) disk.raw && mkfs.ext4 -q -d /usr/share/common-licenses disk.raw 16M \
             && head -c 1500000 /dev/urandom | dd of=disk.raw bs=1M seek=19 conv=notrunc status=none",
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn shell(&self, command: &str) -> String {
        let done = Command::new("bash").args(["-ec", command]).current_dir(&self.directory).output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command}: {said}: run hw-tests/setup");
        said
    }

    fn library(&self) -> Library {
        Library::new(self.path("library"))
    }

    fn import(&self, name: &str) -> Result<Imported, LibraryError> {
        import(&self.library(), &self.path(name))
    }
}

fn import(library: &Library, path: &Path) -> Result<Imported, LibraryError> {
    library.import(File::open(path).unwrap(), &Terms::default(), &mut |_| {})
}

#[test]
fn what_other_tools_packed_is_the_same_image_as_the_raw_disk() {
    let bench = Bench::new("packed");
    let raw = bench.import("disk.raw").unwrap();
    assert!(raw.data_bytes < raw.size && raw.new_bytes > 0);
    let sum = bench.shell("sha256sum disk.raw");
    assert_eq!(sum.split(' ').next().unwrap(), raw.sha256.to_string());
    let qcow2 = |options: &str| format!("qemu-img convert -q -O qcow2 {options} disk.raw OUT");
    for (format, command) in [
        (Format::Gz, "gzip -c disk.raw > OUT".to_owned()),
        (
            Format::Gz,
            "(head -c 5000000 disk.raw | gzip -1; tail -c +5000001 disk.raw | gzip -9) > OUT".to_owned(),
        ),
        (Format::Gz, "gzip -c disk.raw > OUT; head -c 10240 /dev/zero >> OUT".to_owned()),
        (Format::Xz, "xz -0 -c disk.raw > OUT".to_owned()),
        (Format::Xz, "xz -6 -T2 --block-size=3000000 --check=sha256 -c disk.raw > OUT".to_owned()),
        (Format::Xz, "xz -1 --check=crc32 --x86 --lzma2 -c disk.raw > OUT".to_owned()),
        (
            Format::Xz,
            "(head -c 5000000 disk.raw | xz -0; tail -c +5000001 disk.raw | xz -0) > OUT".to_owned(),
        ),
        (Format::Zst, "zstd -q -3 -c disk.raw > OUT".to_owned()),
        (Format::Zst, "zstd -q -1 --long=27 -c disk.raw > OUT".to_owned()),
        (Format::Zst, "zstd -q -12 -c disk.raw > OUT".to_owned()),
        (Format::Zst, "cat disk.raw | zstd -q -1 --no-check -c > OUT".to_owned()),
        (
            Format::Zst,
            "(head -c 5000000 disk.raw | zstd -q; tail -c +5000001 disk.raw | zstd -q) > OUT".to_owned(),
        ),
        (Format::Qcow2, qcow2("")),
        (Format::Qcow2, qcow2("-c")),
        (Format::Qcow2, qcow2("-o cluster_size=4k")),
        (Format::Qcow2, qcow2("-c -o cluster_size=2M")),
        (Format::Qcow2, qcow2("-o compat=0.10")),
        (Format::Qcow2, qcow2("-o preallocation=metadata")),
        (Format::Qcow2, qcow2("-o lazy_refcounts=on -S 0")),
        (Format::Qcow2, qcow2("") + "; qemu-img snapshot -q -c before OUT"),
    ] {
        bench.shell(&command.replace("OUT", "packed"));
        let imported = bench.import("packed").unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!((imported.id, imported.format, imported.new_bytes), (raw.id, format, 0), "{command}");
    }
    assert_eq!(bench.library().verify(&raw.id, &mut |_| {}).unwrap(), []);
    let mut back = vec![0; raw.size as usize + 1];
    let count = bench.library().open(&raw.id).unwrap().read_at(0, &mut back).unwrap();
    assert!(back[..count] == fs::read(bench.path("disk.raw")).unwrap());
}

#[test]
fn what_cannot_be_imported_is_refused_with_what_to_do() {
    let bench = Bench::new("refused");
    for (command, said) in [
        (
            "qemu-img convert -O qcow2 -c -o compression_type=zstd disk.raw packed",
            "convert it with `qemu-img convert -O raw`",
        ),
        (
            "qemu-img convert -O qcow2 -o extended_l2=on,cluster_size=128k disk.raw packed",
            "extended L2 entries",
        ),
        ("qemu-img create -f qcow2 -F raw -b disk.raw packed", "backing file"),
        (
            "qemu-img create -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s packed 1M",
            "encrypted",
        ),
        ("qemu-img create -f qcow2 -o data_file=other,data_file_raw=on packed 1M", "another file"),
        ("qemu-img convert -O qcow2 disk.raw q && xz -0 -c q > packed", "qcow2 data inside a xz file"),
        ("qemu-img convert -O vmdk disk.raw packed", "VMDK"),
        ("qemu-img convert -O vhdx disk.raw packed", "VHDX"),
        ("zstd -q --ultra -20 --long=28 -c < disk.raw > packed", "--long=27"),
        (
            "zstd -q --train -B1024 --maxdict=4096 -o d $(find /usr/share/common-licenses -type f); zstd -q -D d -c disk.raw > packed",
            "dictionary",
        ),
        ("tar -cf packed disk.raw", "tar archive"),
        ("echo '<!DOCTYPE html>' > packed", "web page"),
        (": > packed", "empty"),
    ] {
        bench.shell(&format!("rm -f packed; {command}"));
        let refused = bench.import("packed").map(|imported| imported.id).unwrap_err().to_string();
        assert!(refused.contains(said), "{command}: {refused}");
    }
    assert_eq!(bench.library().list().unwrap(), []);
}

#[test]
fn a_file_that_was_cut_is_refused() {
    let bench = Bench::new("cut");
    for command in [
        "gzip -1 -c disk.raw > packed",
        "xz -0 -c disk.raw > packed",
        "zstd -q -c disk.raw > packed",
        "qemu-img convert -O qcow2 disk.raw packed",
        "qemu-img convert -O qcow2 -c disk.raw packed",
    ] {
        bench.shell(command);
        let whole = fs::read(bench.path("packed")).unwrap();
        // Compressed clusters end in padding that nobody needs.
        let least = if command.contains("-c disk.raw packed") { 70_000 } else { 1 };
        for cut in [least, 70_000, whole.len() / 2, whole.len() - 600] {
            fs::write(bench.path("packed"), &whole[..whole.len() - cut]).unwrap();
            match bench.import("packed") {
                Err(LibraryError::Import(ImportError::Truncated { .. } | ImportError::Damaged { .. })) => {}
                other => panic!("{command} less {cut} octets: {other:?}"),
            }
        }
    }
    assert_eq!(bench.library().list().unwrap(), []);
}

#[test]
fn a_bit_that_flips_on_the_way_yields_no_other_image() {
    let bench = Bench::new("flips");
    bench.shell("dd if=disk.raw of=small bs=1M count=1 skip=8 status=none; cat /usr/share/common-licenses/* | head -c 60000 >> small");
    let mut original = Vec::new();
    File::open(bench.path("small")).unwrap().read_to_end(&mut original).unwrap();
    let expected = bench.import("small").unwrap();
    for command in ["gzip -9 -c small > packed", "xz -6 -c small > packed", "zstd -q -9 -c small > packed"] {
        bench.shell(command);
        let whole = fs::read(bench.path("packed")).unwrap();
        let mut yielded = 0;
        // Each octet of the first and last hundred, and every so often between.
        let some = (0..whole.len()).filter(|at| *at < 100 || at + 100 > whole.len() || at % 83 == 0);
        for (count, at) in some.enumerate() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (count % 8);
            if let Ok(imported) = bench.library().import(&flipped[..], &Terms::default(), &mut |_| {}) {
                // A date or a name in a header is not content. What lost its magic is content by itself.
                assert!(imported.id == expected.id || imported.format == Format::Raw, "{command}: bit {at}");
                yielded += 1;
            }
        }
        assert!(yielded < 60, "{command}: {yielded} flips went unnoticed");
        let mut said = Terms { format: None, ..Terms::default() };
        said.content = Some(Sum::Sha256(expected.sha256));
        assert!(bench.library().import(&whole[..], &said, &mut |_| {}).is_ok());
    }
}

#[test]
fn a_full_disk_says_what_is_missing_and_keeps_nothing() {
    let bench = Bench::new("full");
    let full = bench.path("full");
    fs::create_dir(&full).unwrap();
    bench.shell("gzip -1 -c disk.raw > disk.gz; qemu-img convert -O qcow2 disk.raw disk.qcow2; head -c 2M disk.raw > small");
    std::thread::scope(|scope| {
        let alone = || {
            // A mount namespace of this thread's own: the file system is gone with it.
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace takes root");
            let nothing = None::<&str>;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
            mount(Some("tmpfs"), &full, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
            let library = Library::new(full.join("library"));
            for name in ["disk.raw", "disk.gz", "disk.qcow2"] {
                let refused = import(&library, &bench.path(name)).unwrap_err();
                let LibraryError::Full { needed, free, .. } = &refused else { panic!("{name}: {refused}") };
                let free = free.unwrap();
                assert!(free > 3 << 20 && free <= 4 << 20 && *needed > free, "{name}: {refused}");
                let missing = format!("{} are missing", needed - free);
                assert!(refused.to_string().contains(&missing), "{refused}");
                let left = library.sweep().unwrap().unwrap();
                assert_eq!((left.extents, left.incoming), (0, 0), "{name}");
            }
            let small = import(&library, &bench.path("small")).unwrap();
            assert_eq!(library.verify(&small.id, &mut |_| {}).unwrap(), []);
            assert_eq!(library.list().unwrap().len(), 1);
        };
        scope.spawn(alone).join().unwrap();
    });
}

#[test]
fn a_flipped_bit_on_the_disk_is_found_by_verifying() {
    let bench = Bench::new("rot");
    let imported = bench.import("disk.raw").unwrap();
    let library = bench.library();
    let digest = library.open(&imported.id).unwrap().manifest().digests().nth(1).unwrap();
    let name = digest.to_string();
    let extent = library.root().join("extents").join(&name[..2]).join(&name);
    let file = File::options().read(true).write(true).open(&extent).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, 77_777).unwrap();
    file.write_all_at(&[octet[0] ^ 4], 77_777).unwrap();
    let bad = library.verify(&imported.id, &mut |_| {}).unwrap();
    assert_eq!(bad.iter().map(|bad| bad.digest).collect::<Vec<_>>(), [digest]);
    (&file).flush().unwrap();
}
