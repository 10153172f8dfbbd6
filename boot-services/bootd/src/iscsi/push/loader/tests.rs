use super::*;
use crate::library::Library;
use image::{EXTENT, Terms};
use std::{fs, sync::mpsc::channel};

fn image(root: &std::path::Path, extents: usize) -> Arc<Reader> {
    let library = Library::new(root);
    let octets: Vec<u8> = (0..extents * EXTENT - 512).map(|at| (at / EXTENT + at % 251) as u8).collect();
    let imported = library.import(octets.as_slice(), &Terms::default(), &mut |_| {}).unwrap();
    Arc::new(library.open(&imported.id).unwrap())
}

#[test]
fn extents_come_in_order_and_right() {
    let directory = tempfile::tempdir().unwrap();
    let reader = image(directory.path(), 6);
    let (wake, woken) = channel();
    let mut loader = Loader::start(&reader, move || _ = wake.send(())).unwrap();
    let digests: Vec<Digest> = reader.manifest().digests().collect();
    let (mut next, mut come) = (0, 0);
    while come < digests.len() {
        while next < digests.len() && loader.has_room() {
            loader.want(next, digests[next]);
            next += 1;
        }
        assert!(loader.under_way <= QUEUE);
        woken.recv().unwrap();
        while let Some(loaded) = loader.poll() {
            assert_eq!(loaded.extent, come);
            assert_eq!(image::digest(&loaded.octets.unwrap()), digests[come]);
            come += 1;
        }
    }
    assert_eq!(loader.under_way, 0);
}

#[test]
fn an_extent_that_is_damaged_short_or_gone_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let reader = image(directory.path(), 1);
    let digest = reader.manifest().digests().next().unwrap();
    let name = digest.to_string();
    let path = directory.path().join("extents").join(&name[..2]).join(&name);
    let mut octets = fs::read(&path).unwrap();
    octets[7] ^= 1;
    let mut said = Vec::new();
    for content in [Some(octets.clone()), Some(octets[..9].to_vec()), None] {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        said.push(load(&reader, 0, &digest).unwrap_err());
    }
    for (said, part) in said.iter().zip(["other content", "does not have", "No such file"]) {
        assert!(said.contains(part) && said.contains("import the image again"), "{said}");
        assert!(said.contains(&name), "{said}");
    }
}

#[test]
fn a_loader_that_is_dropped_in_the_middle_ends() {
    let directory = tempfile::tempdir().unwrap();
    let reader = image(directory.path(), 4);
    let mut loader = Loader::start(&reader, || {}).unwrap();
    for (extent, digest) in reader.manifest().digests().enumerate() {
        loader.want(extent, digest);
    }
    drop(loader);
}
