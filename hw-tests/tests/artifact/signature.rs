//! What `sbsign` signs and a firmware's lists are, as the box judges them before it has them started.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use host::trust::{Lists, Refused, judge};
use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::Owner;
use hw_tests::artifact::debian::Mirror;

use crate::Folder;

/// An owner's certificate as it stands in a firmware's `db`.
fn list(folder: &Folder, owner: &str) -> Result<Vec<u8>> {
    let [certificate, out] = [folder.join(owner).join("db.crt"), folder.join(format!("{owner}.esl"))];
    let made = Command::new("cert-to-efi-sig-list").arg(certificate).arg(&out).output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(fs::read(out)?)
}

#[test]
fn a_program_is_judged_as_a_firmware_would_that_has_these_lists() -> Result<()> {
    let folder = Folder::new("signature");
    let [ours, theirs] = ["ours", "theirs"].map(|name| Owner::of(&folder.join(name)));
    let (ours, theirs) = (ours?, theirs?);
    let workshop = Workshop::open()?;
    let mirror = Mirror::open(&workshop)?;
    let boot = mirror.tree(&mirror.package("systemd-boot-efi")?)?;
    let program = boot.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    let [signed, twice] = ["signed.efi", "twice.efi"].map(|name| folder.join(name));
    ours.sign(&program, &signed)?;
    theirs.sign(&signed, &twice)?;
    let (our_list, their_list) = (list(&folder, "ours")?, list(&folder, "theirs")?);
    let both = [their_list.clone(), our_list.clone()].concat();
    let verdict = |program: &[u8], trusted: &[u8], revoked: &[u8]| {
        judge(program, &Lists::parse(trusted), &Lists::parse(revoked))
    };

    let (plain, signed, twice) = (fs::read(&program)?, fs::read(&signed)?, fs::read(&twice)?);
    assert_eq!(verdict(&plain, &our_list, b""), Err(Refused::Unsigned));
    assert_eq!(verdict(&signed, &our_list, b""), Ok(()));
    assert_eq!(verdict(&signed, &both, b""), Ok(()));
    assert_eq!(verdict(&signed, &their_list, b""), Err(Refused::Stranger));
    assert_eq!(verdict(&signed, &both, &our_list), Err(Refused::Revoked));
    assert_eq!(verdict(&twice, &our_list, b""), Ok(()), "one of two signatures is enough");
    assert_eq!(verdict(&twice, &their_list, b""), Ok(()));
    // Where the headers, the sections and the signature are.
    for at in [signed.len() / 2, 0x200, signed.len() / 5] {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        assert_eq!(verdict(&altered, &our_list, b""), Err(Refused::Altered), "the octet {at:#x}");
    }
    folder.passed();
    Ok(())
}
