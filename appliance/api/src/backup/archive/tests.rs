use super::*;
use std::path::PathBuf;

struct Directory(PathBuf);

impl Sink for Directory {
    fn create(&mut self, path: &str, size: u64) -> io::Result<File> {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap())?;
        let file = File::create_new(path)?;
        file.set_len(size)?;
        Ok(file)
    }
}

fn manifest() -> Manifest {
    Manifest { release: "0.1.0".to_owned(), made: 7, images: true }
}

fn unpack(octets: &[u8]) -> (tempfile::TempDir, Result<Manifest, Refused>) {
    let dir = tempfile::tempdir().unwrap();
    let read = read(octets, &mut Directory(dir.path().to_owned()));
    (dir, read)
}

fn good() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &manifest()).unwrap();
    writer.octets("store", b"all there is").unwrap();
    writer.octets("volumes/data/volume.json", b"{}").unwrap();
    writer.finish().unwrap()
}

/// A stream with these lines after its manifest, each followed by its octets.
fn made(lines: &[(&str, &[u8])]) -> Vec<u8> {
    let mut octets = MAGIC.to_vec();
    octets.extend(b"{\"manifest\":{\"release\":\"0.1.0\",\"made\":7,\"images\":true}}\n");
    for (line, rest) in lines {
        octets.extend(line.as_bytes());
        octets.push(b'\n');
        octets.extend(*rest);
    }
    octets
}

const NO_RUN: &[u8] = &[0; 12];

#[test]
fn files_come_back_with_their_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.set_len(3 << 30).unwrap();
    file.write_all_at(b"near the beginning", 8192).unwrap();
    file.write_all_at(&[7; 700_000], 1 << 30).unwrap();
    let mut writer = Writer::new(Vec::new(), &manifest()).unwrap();
    writer.file("volumes/.layers/l1/data", &file).unwrap();
    writer.octets("token", b"a token\n").unwrap();
    writer.octets("drives/none", b"").unwrap();
    let octets = writer.finish().unwrap();
    assert!(octets.len() < 800_000, "{} octets", octets.len());

    let (dir, read) = unpack(&octets);
    assert_eq!(read.unwrap(), manifest());
    assert_eq!(std::fs::read(dir.path().join("token")).unwrap(), b"a token\n");
    assert_eq!(std::fs::read(dir.path().join("drives/none")).unwrap(), b"");
    let back = File::open(dir.path().join("volumes/.layers/l1/data")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), 3 << 30);
    let mut found = [0; 18];
    back.read_exact_at(&mut found, 8192).unwrap();
    assert_eq!(&found, b"near the beginning");
    let mut found = vec![0; 700_001];
    back.read_exact_at(&mut found, 1 << 30).unwrap();
    assert!(found[..700_000].iter().all(|octet| *octet == 7) && found[700_000] == 0);
}

#[test]
fn a_stream_that_is_cut_anywhere_is_refused() {
    let octets = good();
    assert!(unpack(&octets).1.is_ok());
    for at in 0..octets.len() {
        let (_, read) = unpack(&octets[..at]);
        assert!(
            matches!(&read, Err(Refused::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof),
            "cut at {at}: {read:?}"
        );
    }
}

#[test]
fn no_path_leads_out_of_the_directory() {
    let long = format!("drives/{}", "a".repeat(129));
    for path in [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../token",
        "kiln.toml/x",
        "images",
        "drives/../token",
        "drives/.",
        "drives//a",
        "drives/a/",
        "store/../../a",
        "drives/a\\u0000b",
        "drives/a b",
        "drives/é",
        "lock",
        "restore/ready",
        "volumes/a/b/c/d",
        &long,
    ] {
        let line = format!("{{\"file\":{{\"path\":\"{path}\",\"size\":0}}}}");
        let (dir, read) = unpack(&made(&[(&line, NO_RUN), ("{\"end\":{\"files\":1,\"octets\":0}}", b"")]));
        assert!(matches!(&read, Err(Refused::Bad(_))), "{path:?}: {read:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{path:?}");
    }
}

#[test]
fn what_would_do_harm_or_is_unknown_is_refused() {
    const FILE: &str = "{\"file\":{\"path\":\"token\",\"size\":4}}";
    const END: &str = "{\"end\":{\"files\":1,\"octets\":0}}";
    let run = |offset: u64, length: u32, octets: &[u8]| {
        [&offset.to_le_bytes()[..], &length.to_le_bytes(), octets].concat()
    };
    let beyond = run(2, 3, b"abc");
    let wrapping = run(u64::MAX, 2, b"ab");
    let backwards = [run(2, 2, b"ab"), run(0, 2, b"ab")].concat();
    let huge = run(0, u32::MAX, b"");
    let long = format!("{{\"file\":{{\"path\":\"{}\"", "a".repeat(5000));
    for (why, octets) in [
        ("twice", made(&[(FILE, NO_RUN), (FILE, NO_RUN)])),
        ("more than it says", made(&[(FILE, &beyond)])),
        ("more than it says", made(&[(FILE, &wrapping)])),
        ("more than it says", made(&[(FILE, &backwards)])),
        ("more than it says", made(&[(FILE, &huge)])),
        ("larger than", made(&[("{\"file\":{\"path\":\"token\",\"size\":99999999999999}}", NO_RUN)])),
        ("missing in the middle", made(&[(END, b"")])),
        ("follows its end", made(&[(FILE, NO_RUN), (END, b"more")])),
        ("two manifests", made(&[("{\"manifest\":{\"release\":\"\",\"made\":0,\"images\":true}}", b"")])),
        ("unknown", made(&[("{\"link\":{\"path\":\"token\",\"to\":\"/etc/shadow\"}}", b"")])),
        ("unknown", made(&[("{\"file\":{\"path\":\"token\",\"size\":4,\"mode\":2541}}", b"")])),
        ("too long", made(&[(&long, b"")])),
        ("manifest does not come first", [MAGIC, FILE.as_bytes(), b"\n", NO_RUN].concat()),
        ("does not begin", b"kiln backup 2\n{\"manifest\"".to_vec()),
    ] {
        let (_, read) = unpack(&octets);
        assert!(matches!(&read, Err(Refused::Bad(said)) if said.contains(why)), "{why}: {read:?}");
    }
    // A file where a directory is to be, the file system refuses.
    let drive = "{\"file\":{\"path\":\"drives/a\",\"size\":4}}";
    let nested = "{\"file\":{\"path\":\"drives/a/below\",\"size\":0}}";
    assert!(matches!(unpack(&made(&[(drive, NO_RUN), (nested, NO_RUN)])).1, Err(Refused::Write(_))));
}

#[test]
fn no_octets_make_it_panic() {
    let good = good();
    let mut seed = 7u64;
    for _ in 0..20_000 {
        let mut octets = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % octets.len();
            octets[at] = (seed >> 20) as u8;
        }
        struct Nowhere;
        impl Sink for Nowhere {
            fn create(&mut self, _: &str, _: u64) -> io::Result<File> {
                File::options().write(true).open("/dev/null")
            }
        }
        let _ = read(&octets[..], &mut Nowhere);
    }
}
