use super::*;

const ROOT: &str = "aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899";

fn block(text: &str) -> Vec<u8> {
    let mut block = text.as_bytes().to_vec();
    block.resize(BLOCK as usize, 0);
    block
}

fn text() -> String {
    format!("kiln-seal 1\ndata-blocks 7\nroot {ROOT}\nsalt 0011\nversion 0.1.0+abc\n")
}

#[test]
fn a_seal_gives_the_table_that_the_kernel_checks_by() {
    let seal = Seal::parse(&block(&text()), 7).unwrap();
    assert_eq!(seal.version, "0.1.0+abc");
    assert_eq!(seal.table("254:3", false), format!("1 254:3 254:3 4096 4096 7 9 sha256 {ROOT} 0011"));
    assert!(seal.table("254:3", true).ends_with("0011 1 restart_on_corruption"));
}

#[test]
fn a_seal_stands_where_the_squashfs_ends() {
    let mut head = vec![0; HEAD];
    head[..4].copy_from_slice(b"hsqs");
    for (used, blocks) in [(96u64, 1), (4096, 1), (4097, 2), (31_000_000, 7569)] {
        head[40..48].copy_from_slice(&used.to_le_bytes());
        assert_eq!(data_blocks(&head), Ok(blocks));
    }
    head[0] = b'x';
    assert_eq!(data_blocks(&head), Err(Unsealed::NoSquashfs));
    assert_eq!(data_blocks(b"hsqs"), Err(Unsealed::NoSquashfs));
}

#[test]
fn what_is_wrong_with_a_seal_is_said() {
    assert_eq!(Seal::parse(&block(""), 7), Err(Unsealed::NoSeal));
    assert_eq!(Seal::parse(&block(&text().replace("seal 1", "seal 2")), 7), Err(Unsealed::NoSeal));
    assert_eq!(Seal::parse(&block(&text()), 8), Err(Unsealed::OtherSize(7, 8)));
    for (from, to, key) in [
        ("root a", "root g", "root"),
        ("root aa", "root ", "root"),
        ("salt 0011", "salt 001", "salt"),
        ("salt 0011\n", "", "salt"),
        ("version", "edition", "version"),
        ("blocks 7", "blocks x", "data-blocks"),
        (" 0011", " 0011 1 ignore_corruption", "salt"),
    ] {
        assert_eq!(Seal::parse(&block(&text().replace(from, to)), 7), Err(Unsealed::Line(key)), "{from}");
    }
}

#[test]
fn no_octets_make_it_panic() {
    let whole = block(&text());
    for at in 0..200 {
        let mut noise = whole.clone();
        noise[at] ^= 0x80;
        let _ = Seal::parse(&noise, 7);
        let _ = Seal::parse(&whole[..at], 7);
    }
}
