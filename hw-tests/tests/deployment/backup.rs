//! A backup, the data directory lost, and the appliance as it was.

use crate::scene::{SOON, WHOLE, active, deploy, image, stand};
use control::VolumeView;
use hw_tests::rack::{Firmware, until};
use hw_tests::stand::{PATIENCE, Stand};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A file system of one MiB over a directory, until this is dropped.
struct Tight<'a>(&'a Path);

impl Tight<'_> {
    fn over(directory: &Path) -> Tight<'_> {
        let options = "size=1m,uid=64700,gid=64700,mode=0700";
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(options)).unwrap();
        Tight(directory)
    }
}

impl Drop for Tight<'_> {
    fn drop(&mut self) {
        nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

fn restore(stand: &Stand, file: &Path, secret: &Path) -> Result<String, String> {
    let words = ["appliance", "restore", "--replace", "--passphrase-file"];
    let (file, secret) = (file.display().to_string(), secret.display().to_string());
    stand.kiln(&[&words[..], &[&secret, &file]].concat()).map_err(|e| e.to_string())
}

#[test]
fn an_appliance_that_lost_everything_is_restored_and_goes_on_with_its_nodes() {
    let mut stand = stand("backup", 1, Firmware::Bios, PATIENCE);
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    let before = active(&stand, "node1", "tenant-1");
    stand.kiln(&["volume", "create", "data", "--image", "tiny"]).unwrap();
    stand.kiln(&["volume", "create", "empty", "--size", "1G"]).unwrap();

    let (secret, file) = (stand.home().join("secret"), stand.home().join("backup.age"));
    fs::write(&secret, "correct horse battery staple\n").unwrap();
    let words =
        ["appliance", "backup", "--passphrase-file", secret.to_str().unwrap(), file.to_str().unwrap()];
    let mut backup = stand.namespace().spawn(&mut stand.command(&words)).unwrap();
    // Something changes meanwhile.
    for index in 0..5 {
        stand.kiln(&["volume", "create", &format!("more-{index}"), "--size", "1M"]).unwrap();
    }
    assert!(backup.wait().unwrap().success());
    let volumes = || -> Vec<VolumeView> { stand.kiln_json(&["volume", "list"]).unwrap() };
    until(SOON, "the snapshots of the backup to be gone", || {
        Ok((!volumes().iter().any(|volume| volume.name.as_str().starts_with("kiln-backup"))).then_some(()))
    })
    .unwrap();
    let size = fs::metadata(&file).unwrap().len();
    println!("the backup has {size} octets");
    let refused = stand.kiln(&words).unwrap_err().to_string();
    assert!(refused.contains("is there already"), "{refused}");

    stand.stop();
    fs::remove_dir_all(stand.home().join("data")).unwrap();
    stand.start().unwrap();
    let nodes = |stand: &Stand| stand.kiln_json::<Vec<control::NodeView>>(&["node", "list"]);
    assert!(nodes(&stand).unwrap().is_empty());

    // What is wrong is said, and changes nothing.
    let wrong = stand.home().join("wrong");
    fs::write(&wrong, "another\n").unwrap();
    let refused = restore(&stand, &file, &wrong).unwrap_err();
    assert!(refused.contains("the passphrase or the key is not the one"), "{refused}");
    let mut octets = fs::read(&file).unwrap();
    let hurt = stand.home().join("hurt.age");
    fs::write(&hurt, &octets[..octets.len() * 2 / 3]).unwrap();
    let refused = restore(&stand, &hurt, &secret).unwrap_err();
    assert!(refused.contains("damaged or cut off, and nothing is changed"), "{refused}");
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    fs::write(&hurt, &octets).unwrap();
    let refused = restore(&stand, &hurt, &secret).unwrap_err();
    assert!(refused.contains("damaged or cut off, and nothing is changed"), "{refused}");
    {
        let place = stand.home().join("data/restore");
        let _tight = Tight::over(&place);
        let refused = restore(&stand, &file, &secret).unwrap_err();
        assert!(refused.contains("too full"), "{refused}");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }
    assert!(nodes(&stand).unwrap().is_empty());

    // Killed anywhere on the way, control comes back with nothing or with all of it.
    for millis in [20, 1200, 1600, 2000, 2400, 2800] {
        let words = ["appliance", "restore", "--replace", "--passphrase-file"];
        let mut command = stand.command(&words);
        let mut child = stand.namespace().spawn(command.arg(&secret).arg(&file)).unwrap();
        // Until then it is let go on, or it is through.
        let _ = until(Duration::from_millis(millis), "the restore to end", || Ok(child.try_wait().unwrap()));
        stand.kill("control").unwrap();
        let done = child.wait().unwrap().success();
        let found = until(SOON, "control to answer", || Ok(nodes(&stand).ok())).unwrap();
        println!("killed after {millis} ms: restored {done}, {} nodes", found.len());
    }
    until(SOON, "the restore to be taken", || Ok(restore(&stand, &file, &secret).ok())).unwrap();
    until(SOON, "the node to be known again", || {
        Ok(nodes(&stand).ok().filter(|nodes| nodes.len() == 1).map(drop))
    })
    .unwrap();
    let after = active(&stand, "node1", "tenant-1");
    assert_eq!((after.address, after.provision_state), (before.address, before.provision_state));
    until(SOON, "its volumes to be there", || {
        let Ok(volumes) = stand.kiln_json::<Vec<VolumeView>>(&["volume", "list"]) else { return Ok(None) };
        let is_there = |name: &str| {
            let volume = volumes.iter().find(|volume| volume.name.as_str() == name);
            volume.is_some_and(|volume| matches!(volume.state, Some(boot::VolumeState::Ready { .. })))
        };
        let none_of_backup = !volumes.iter().any(|volume| volume.name.as_str().starts_with("kiln-backup"));
        Ok((is_there("data") && is_there("empty") && none_of_backup).then_some(()))
    })
    .unwrap();
    let scrubbed = stand.kiln(&["scrub"]).unwrap();
    println!("{scrubbed}");
    // It makes volumes of its own again, over what it restored.
    stand.kiln(&["volume", "snapshot", "data", "--name", "data-then"]).unwrap();

    // The copy of a store from before a migration goes when this release is proved good.
    let kept = stand.home().join("data/store/kept");
    fs::create_dir_all(&kept).unwrap();
    stand.kiln(&["node", "undeploy", "node1", "--no-wait"]).unwrap();
    stand.wait_state("node1", "available", WHOLE).unwrap();
    until(Duration::from_secs(90), "the kept copy to go", || Ok((!kept.exists()).then_some(()))).unwrap();
    assert!(image().exists());
}
