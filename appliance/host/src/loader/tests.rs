#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::pe::tests::program;
use Slot::{A, B};

#[test]
fn the_slot_whose_root_was_signed_is_started_and_the_loader_s_word_counts_between_two() {
    let table = [
        (&[A][..], Some(A), Some(A)),
        (&[B], Some(B), Some(B)),
        (&[A, B], Some(B), Some(B)),
        (&[A, B], Some(A), Some(A)),
        (&[A, B], None, Some(A)),
        // The word is not signed.
        (&[A], Some(B), Some(A)),
        (&[B], Some(A), Some(B)),
        (&[B], None, Some(B)),
        (&[], Some(A), None),
        (&[], None, None),
    ];
    for (holding, said, chosen) in table {
        assert_eq!(slot::choose(holding, said), chosen, "{holding:?}, {said:?}");
    }
}

#[test]
fn the_loader_s_word_is_a_file_s_name_in_any_case() {
    assert_eq!((entry(A).as_str(), entry(B).as_str()), ("kiln-a.efi", "kiln-b.efi"));
    assert_eq!(slot_of("kiln-b.efi"), Some(B));
    assert_eq!(slot_of("KILN-A.EFI"), Some(A));
    assert_eq!(slot_of("auto-reboot-to-firmware-setup"), None);
}

#[test]
fn a_command_line_that_fits_either_slot_has_a_root_and_no_slot() {
    let root = "ab".repeat(32);
    let said = |text: &str| asked(text).map(|root| root.map(|root| root.as_str().to_owned()));
    assert_eq!(said(&format!("kiln.slot=loader kiln.verity={root} quiet")).unwrap(), Some(root.clone()));
    assert_eq!(said(&format!("kiln.slot=A kiln.root=x kiln.verity={root}")).unwrap(), None);
    assert_eq!(said("").unwrap(), None);
    let why = |text: &str| asked(text).unwrap_err().to_string();
    assert_eq!(why("kiln.slot=loader"), "kiln.verity= is not on the kernel command line");
    assert_eq!(why("kiln.slot=loader kiln.verity=ab"), "kiln.verity=ab is not a hash of 64 digits");
}

#[test]
fn the_default_changes_in_place_and_within_one_sector() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loader.conf");
    assert!(configuration(A).len() <= 512 && configuration(A).len() == configuration(B).len());
    fs::write(&file, configuration(A)).unwrap();
    let inode = |file: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).unwrap());
    let before = inode(&file);
    assert_eq!(write_configuration(&file, A).unwrap(), Did::Already);
    assert_eq!(write_configuration(&file, B).unwrap(), Did::Changed);
    assert_eq!(fs::read_to_string(&file).unwrap(), configuration(B));
    assert_eq!(inode(&file), before);
    fs::write(&file, "timeout 5\n").unwrap();
    assert_eq!(write_configuration(&file, B).unwrap(), Did::Changed);
    assert_eq!(fs::read_to_string(&file).unwrap(), configuration(B));
}

#[test]
fn a_kernel_image_is_written_in_place_whatever_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kiln-b.efi");
    let image: Vec<u8> = (0..3 * PIECE + 5).map(|at| (at / 7) as u8).collect();
    for before in [0, 10, image.len(), image.len() + 10] {
        fs::write(&file, vec![7; before]).unwrap();
        write(&file, &image).unwrap();
        assert!(fs::read(&file).unwrap() == image, "where {before} octets were");
    }
}

#[test]
fn a_kernel_image_of_another_system_is_not_armed() {
    let folder = tempfile::tempdir().unwrap();
    // A firmware that has no keys yet.
    let variables = Variables::at(folder.path());
    let hash = "ab".repeat(32);
    let root: Root = hash.parse().unwrap();
    let image = |cmdline: &str| program(&[(".cmdline", cmdline.as_bytes()), (".linux", b"kernel")], b"");
    let why = |cmdline: &str| format!("{:#}", check(&image(cmdline), &root, &variables).unwrap_err());
    check(&image(&format!("kiln.slot=loader kiln.verity={hash} quiet")), &root, &variables).unwrap();
    let other = format!("kiln.slot=loader kiln.verity={}", "cd".repeat(32));
    assert_eq!(why(&other), "it is another system's: its root hash is not the slot's");
    assert!(why(&format!("kiln.slot=A kiln.verity={hash}")).starts_with("it is another system's"));
    assert!(check(b"no program", &root, &variables).unwrap_err().to_string().contains("no command line"));
    // One that has: nobody signed it.
    fs::write(folder.path().join(efivars::TRUSTED.0), [0; 80]).unwrap();
    assert_eq!(why(&format!("kiln.slot=loader kiln.verity={hash}")), "it is not signed");
}
