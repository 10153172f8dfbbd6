use super::*;
use image::EXTENT;
use std::process::{Command, Stdio};

/// Octets of one extent that differ from those of another seed, and do not repeat.
fn extent(seed: u8) -> Vec<u8> {
    let mut octets: Vec<u8> = (0..EXTENT as u32 / 4).flat_map(u32::to_le_bytes).collect();
    octets[0] = seed;
    octets
}

fn disk(seeds: &[Option<u8>]) -> Vec<u8> {
    seeds.iter().flat_map(|seed| seed.map_or_else(|| vec![0; EXTENT], extent)).collect()
}

fn library() -> (tempfile::TempDir, Library) {
    let directory = tempfile::tempdir().unwrap();
    let library = Library::new(directory.path().join("images"));
    (directory, library)
}

fn import(library: &Library, content: &[u8]) -> Imported {
    library.import(content, &Terms::default(), &mut |_| {}).unwrap()
}

fn files(library: &Library, part: &str) -> usize {
    let mut count = 0;
    shelf::each(&library.root().join(part), &mut |_, _| {
        count += 1;
        Ok(())
    })
    .unwrap();
    count
}

#[test]
fn an_imported_image_is_listed_and_reads_back() {
    let (_directory, library) = library();
    assert_eq!(library.list().unwrap(), []);
    let content = disk(&[Some(1), None, Some(2), Some(1)]);
    let content = &content[..content.len() - 100];
    let mut last = Progress::default();
    let imported = library.import(content, &Terms::default(), &mut |progress| last = progress).unwrap();
    assert_eq!(last.unpacked, content.len() as u64);
    let mib = EXTENT as u64;
    // The last extent ends in zeros where the first does not.
    assert_eq!((imported.size, imported.data_bytes, imported.new_bytes), (4 * mib, 3 * mib, 3 * mib));
    assert_eq!((imported.padding, imported.format), (100, Format::Raw));
    let Imported { id, size, data_bytes, sha256, .. } = imported;
    assert_eq!(library.list().unwrap(), [Listed { id, size, data_bytes, sha256 }]);
    assert!(library.contains(&id));
    let reader = library.open(&id).unwrap();
    let mut back = vec![1; 5 * EXTENT];
    assert_eq!(reader.read_at(0, &mut back).unwrap(), 4 * EXTENT);
    assert!(back.starts_with(content) && back[content.len()..4 * EXTENT].iter().all(|o| *o == 0));
    assert_eq!(reader.read_at(mib - 1, &mut back[..2]).unwrap(), 2);
    assert_eq!(back[..2], [content[EXTENT - 1], 0]);
    assert_eq!(library.verify(&id, &mut |_| {}).unwrap(), []);
    assert_eq!(files(&library, "incoming"), 0);
}

#[test]
fn an_extent_is_kept_once_for_all_images() {
    let (_directory, library) = library();
    let first = import(&library, &disk(&[Some(1), Some(2), Some(1)]));
    assert_eq!(files(&library, "extents"), 2);
    let second = import(&library, &disk(&[Some(3), Some(2)]));
    assert_eq!((second.new_bytes, second.data_bytes), (EXTENT as u64, 2 * EXTENT as u64));
    let again = import(&library, &disk(&[Some(1), Some(2), Some(1)]));
    assert_eq!((again.id, again.new_bytes), (first.id, 0));
    assert_eq!(files(&library, "extents"), 3);
    assert_eq!(library.list().unwrap().len(), 2);
    assert!(library.remove(&first.id).unwrap());
    assert!(!library.remove(&first.id).unwrap());
    assert!(matches!(library.open(&first.id), Err(LibraryError::NotFound(_))));
    assert_eq!(files(&library, "extents"), 2);
    assert_eq!(library.verify(&second.id, &mut |_| {}).unwrap(), []);
}

#[test]
fn a_bad_extent_is_named_and_importing_again_heals_it() {
    let (_directory, library) = library();
    let content = disk(&[Some(1), Some(2), None, Some(3), Some(4)]);
    let imported = import(&library, &content);
    let digests: Vec<_> = library.open(&imported.id).unwrap().manifest().digests().collect();
    let path = |index: usize| shelf::extent_path(library.root(), &digests[index]);
    fs::remove_file(path(0)).unwrap();
    File::options().append(true).open(path(1)).unwrap().write_all(b"more").unwrap();
    File::options().write(true).open(path(2)).unwrap().set_len(10).unwrap();
    File::options().write(true).open(path(3)).unwrap().write_all(b"\xff").unwrap();
    let bad = library.verify(&imported.id, &mut |_| {}).unwrap();
    let told: Vec<_> = bad.iter().map(|bad| (bad.offset >> 20, bad.why.as_str())).collect();
    assert_eq!(
        told,
        [
            (0, "missing"),
            (1, "longer than 1048576 octets"),
            (3, "10 octets long, not 1048576"),
            (4, "of other content")
        ]
    );
    let missing = library.open(&imported.id).unwrap().read_at(0, &mut [0; 9]).unwrap_err();
    assert!(missing.to_string().contains("import the image again"), "{missing}");
    assert_eq!(import(&library, &content).new_bytes, 4 * EXTENT as u64);
    assert_eq!(library.verify(&imported.id, &mut |_| {}).unwrap(), []);
}

#[test]
fn scrubbing_names_every_image_that_a_bad_extent_hurts() {
    let (_directory, library) = library();
    let first = import(&library, &disk(&[Some(1), Some(2), None, Some(1)]));
    let second = import(&library, &disk(&[Some(2), None, Some(3)]));
    let third = import(&library, &disk(&[Some(4)]));
    let mut read = 0;
    assert_eq!(library.scrub(&mut |octets| read = octets).unwrap(), []);
    assert_eq!(read, 4 * EXTENT as u64);
    let shared = image::digest(&extent(2));
    File::options()
        .write(true)
        .open(shelf::extent_path(library.root(), &shared))
        .unwrap()
        .write_all(b"\x00")
        .unwrap();
    fs::write(library.manifest_path(&third.id), b"{}").unwrap();
    let hurt = library.scrub(&mut |_| {}).unwrap();
    let extents = |id: Digest| {
        hurt.iter().find(|hurt| hurt.image == id).unwrap().extents.iter().map(|bad| bad.offset).collect()
    };
    let (of_first, of_second): (Vec<u64>, Vec<u64>) = (extents(first.id), extents(second.id));
    assert_eq!((hurt.len(), of_first, of_second), (3, vec![EXTENT as u64], vec![0]));
    assert!(hurt.iter().any(|hurt| hurt.image == third.id && hurt.manifest.is_some()));
}

#[test]
fn a_failed_import_leaves_nothing() {
    let (_directory, library) = library();
    let kept = import(&library, &disk(&[Some(1)]));
    let limited = Terms { max_size: 3 << 20, ..Terms::default() };
    let wrong = Terms { content: Some("00".repeat(32).parse().unwrap()), ..Terms::default() };
    for terms in [limited, wrong] {
        let failed = library.import(&disk(&[Some(1), Some(2), Some(3), Some(4)])[..], &terms, &mut |_| {});
        assert!(matches!(failed, Err(LibraryError::Import(_))));
        assert_eq!(
            (files(&library, "extents"), files(&library, "incoming"), files(&library, "images")),
            (1, 0, 1)
        );
    }
    let not_qcow2 = library.import(&b"QFI\xfb and no more"[..], &Terms::default(), &mut |_| {});
    assert!(matches!(not_qcow2, Err(LibraryError::Import(ImportError::Truncated { .. }))));
    assert_eq!(files(&library, "incoming"), 0);
    assert_eq!(library.verify(&kept.id, &mut |_| {}).unwrap(), []);
}

#[test]
fn nothing_is_swept_while_an_import_runs_or_a_manifest_is_damaged() {
    let (_directory, library) = library();
    assert_eq!(library.sweep().unwrap(), Some(Swept::default()));
    let imported = import(&library, &disk(&[Some(1), Some(2)]));
    let orphan = library.root().join("extents/ab");
    fs::create_dir_all(&orphan).unwrap();
    fs::write(orphan.join("ab".repeat(32)), b"orphan").unwrap();
    fs::write(library.root().join("incoming/1-1"), b"half").unwrap();
    {
        let _import = library.lock(FlockArg::LockShared).unwrap().unwrap();
        assert_eq!(library.sweep().unwrap(), None);
    }
    let path = library.manifest_path(&imported.id);
    let manifest = fs::read(&path).unwrap();
    let mut flipped = manifest.clone();
    flipped[100] ^= 1;
    fs::write(&path, flipped).unwrap();
    for refused in
        [library.sweep().map(|_| ()), library.list().map(|_| ()), library.open(&imported.id).map(|_| ())]
    {
        assert!(matches!(refused, Err(LibraryError::Damaged { .. })), "{refused:?}");
    }
    fs::write(&path, manifest).unwrap();
    assert_eq!(library.sweep().unwrap(), Some(Swept { extents: 1, incoming: 1, bytes: 10 }));
    assert_eq!(library.verify(&imported.id, &mut |_| {}).unwrap(), []);
}

/// An upload that breaks off.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn an_import_that_broke_off_is_gone_on_with_when_it_is_given_again() {
    let (_directory, library) = library();
    let content = disk(&[Some(1), Some(2), None, Some(3), Some(4)]);
    let half = &content[..EXTENT * 4 + 1000];
    let broken = library.import(Broken(half), &Terms::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(broken, LibraryError::Import(ImportError::Source { .. })), "{broken}");
    assert_eq!(library.list().unwrap(), []);
    // However often the rest is swept meanwhile.
    assert_eq!(library.sweep().unwrap(), Some(Swept::default()));
    assert_eq!((files(&library, "extents"), files(&library, "unfinished")), (3, 1));
    let imported = import(&library, &content);
    assert_eq!((imported.new_bytes, imported.data_bytes), (EXTENT as u64, 4 * EXTENT as u64));
    assert_eq!(files(&library, "unfinished"), 0);
    library.remove(&imported.id).unwrap();
    assert_eq!(files(&library, "extents"), 0);
}

#[test]
fn of_broken_imports_the_last_four_are_kept() {
    let (_directory, library) = library();
    for seed in 1..8 {
        let content = disk(&[Some(seed), Some(100 + seed)]);
        library.import(Broken(&content), &Terms::default(), &mut |_| {}).unwrap_err();
    }
    assert_eq!((files(&library, "extents"), files(&library, "unfinished")), (8, 4));
    assert_eq!(import(&library, &disk(&[Some(107), None, Some(7)])).new_bytes, 0);
    assert_eq!((files(&library, "extents"), files(&library, "unfinished")), (8, 3));
}

#[test]
fn two_imports_at_once_both_succeed() {
    let (_directory, library) = library();
    let disks = [disk(&[Some(1), Some(2), Some(3)]), disk(&[Some(3), Some(2), Some(4)])];
    std::thread::scope(|scope| {
        for disk in &disks {
            scope.spawn(|| import(&library, disk));
            scope.spawn(|| library.import(&b"PK\x03\x04"[..], &Terms::default(), &mut |_| {}).unwrap_err());
        }
    });
    for image in library.list().unwrap() {
        assert_eq!(library.verify(&image.id, &mut |_| {}).unwrap(), []);
    }
    assert_eq!((library.list().unwrap().len(), files(&library, "extents")), (2, 4));
}

const CHILD: &str = "KILN_TEST_LIBRARY";

/// What the test below kills: it imports its standard input.
#[test]
fn child_that_imports_its_standard_input() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let stdout = std::io::stdout();
    let mut tell = |progress: Progress| {
        let mut out = stdout.lock();
        writeln!(out, "\nat {}", progress.unpacked).and_then(|()| out.flush()).unwrap();
    };
    Library::new(root).import(std::io::stdin(), &Terms::default(), &mut tell).unwrap();
}

#[test]
fn an_import_killed_anywhere_leaves_no_image() {
    use std::io::BufRead as _;
    let (_directory, library) = library();
    let kept = import(&library, &disk(&[Some(1)]));
    let name = "library::tests::child_that_imports_its_standard_input";
    for extents in 1..6_u8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, library.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut upload = child.stdin.take().unwrap();
        let content = disk(&(0..extents).map(Some).collect::<Vec<_>>());
        upload.write_all(&content).unwrap();
        // The upload is not at its end: all but what is buffered is on the shelf when it says so.
        let reached = format!("at {}", content.len());
        let mut told = io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(told.any(|line| line.unwrap() == reached));
        // Now and then the manifest's turn comes before the signal does.
        if extents == 5 {
            drop(upload);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let images = library.list().unwrap();
        assert!(images.iter().any(|image| image.id == kept.id));
        if extents < 5 {
            assert_eq!(images.len(), 1);
            assert!(files(&library, "extents") >= extents.into());
        }
        library.sweep().unwrap().unwrap();
        assert!(files(&library, "extents") >= usize::from(extents) && files(&library, "incoming") == 0);
        for image in images {
            assert_eq!(library.verify(&image.id, &mut |_| {}).unwrap(), []);
        }
    }
}
