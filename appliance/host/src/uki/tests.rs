#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use std::fs;

#[test]
fn the_image_stands_where_dm_verity_s_tree_ends() {
    // As veritysetup makes the tree: data blocks, and the tree's.
    for (data, tree) in [(1, 0), (2, 1), (128, 1), (129, 3), (16384, 129), (16385, 132), (7569, 61)] {
        assert_eq!(place(data), data + 2 + tree, "{data}");
    }
    assert_eq!(place(u64::MAX), u64::MAX);
}

/// A slot of two blocks of squashfs, with these octets where the image belongs.
fn slot(behind: &[u8]) -> Result<Option<Vec<u8>>> {
    let seal = Seal {
        data_blocks: 2,
        root: "ab".repeat(32).parse().unwrap(),
        salt: "00".parse().unwrap(),
        version: "1".to_owned(),
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), [&vec![7; 5 * BLOCK as usize], behind].concat()).unwrap();
    read(file.path(), &seal)
}

#[test]
fn an_image_is_read_as_it_was_written_and_none_is_none() {
    let image = b"MZ and more".repeat(1000);
    let whole = [Head::of(&image).block(), image.clone()].concat();
    assert_eq!(slot(&whole).unwrap(), Some(image));
    assert_eq!(slot(b"").unwrap(), None);
    assert_eq!(slot(&[0; 5000]).unwrap(), None);
    assert_eq!(slot(&[0xff; 5000]).unwrap(), None);
}

#[test]
fn an_image_that_is_not_what_its_head_says_is_refused_with_words() {
    let image = b"MZ and more".repeat(1000);
    let whole = [Head::of(&image).block(), image].concat();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = whole.clone();
        change(&mut octets);
        format!("{:#}", slot(&octets).unwrap_err())
    };
    assert!(refused(&|octets| octets[6000] ^= 1).ends_with("it is not the one that its SHA-256 is of"));
    assert!(refused(&|octets| octets.truncate(9000)).contains("is damaged"));
    let rewritten = |from: &'static str, to: &'static str| {
        refused(&move |octets| {
            let text = String::from_utf8(octets[..4096].to_vec()).unwrap().replace(from, to);
            let mut block = text.into_bytes();
            block.resize(4096, 0);
            octets[..4096].copy_from_slice(&block);
        })
    };
    assert!(rewritten("length 11000", "length 99999999999").contains("at most 31457280 fit"));
    assert!(rewritten("length 11000", "length -1").ends_with("its length is no number"));
    assert!(rewritten("length 11000", "length 10999").ends_with("it is not the one that its SHA-256 is of"));
    assert!(rewritten("sha256", "sha512").ends_with("its head has no line sha256"));
}
