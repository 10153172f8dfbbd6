use super::*;
use std::path::PathBuf;

/// A data directory with an old state, and a new one that waits.
struct Scene {
    directory: tempfile::TempDir,
    config: Config,
}

/// What a part of a state says; the box's configuration has to be one.
fn text_of(part: &str, state: &str) -> String {
    match part {
        "kiln.toml" => {
            let key = if state == "old" { OWN } else { STRANGE };
            format!(
                "[host]\nname = \"{state}\"\n[uplink]\ndevice = \"eth0\"\naddress = \"dhcp\"\n[ssh]\nkeys = [\"{key}\"]\n"
            )
        }
        _ => state.to_owned(),
    }
}

const OWN: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlVi8bWcSDEiEYAgvE8ZoRWYh81VgJsoLWfgnlWrYrd anna@desk";
const STRANGE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGWi7C9B1evOdkUkmutBDGjs4uBY0FMcAHb/4WHmJbYD bert";

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().display();
        let text = format!(
            "[appliance]\ndata = \"{home}/data\"\nrun = \"{home}/run\"\napi = \"127.0.0.1:0\"\n\
             [files]\nipxe_bios = \"/a\"\nipxe_uefi = \"/a\"\nkernel = \"/a\"\ninitramfs = \"/a\"\n"
        );
        let file = directory.path().join("kiln.toml");
        fs::write(&file, text).unwrap();
        let scene = Scene { config: Config::read(&file).unwrap(), directory };
        for part in
            ["store/db", "volumes/v/volume.json", "drives/d", "images/extents/aa/old", "token", "kiln.toml"]
        {
            scene.put(&scene.data(part), &text_of(part, "old"));
            scene.put(&scene.ready(part), &text_of(part, "new"));
        }
        scene.put(&scene.directory.path().join("run/dhcp/dhcp.plan"), "old");
        scene.put(&scene.directory.path().join("run/dhcp/dhcp.leases"), "old");
        scene
    }

    fn put(&self, path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn data(&self, part: &str) -> PathBuf {
        self.config.appliance.data.join(part)
    }

    fn ready(&self, part: &str) -> PathBuf {
        self.config.restore().join("ready").join(part)
    }

    fn text(&self, part: &str) -> String {
        fs::read_to_string(self.data(part)).unwrap_or_default()
    }

    fn expect(&self, state: &str) {
        for part in
            ["store/db", "volumes/v/volume.json", "drives/d", "images/extents/aa/old", "token", "kiln.toml"]
        {
            assert!(self.text(part).contains(state), "{part}: {}", self.text(part));
        }
    }
}

#[test]
fn what_is_ready_comes_in_the_place_of_what_was() {
    let scene = Scene::new();
    place(&scene.config, None).unwrap();
    scene.expect("new");
    assert_eq!(fs::read_dir(scene.config.restore()).unwrap().count(), 0);
    assert!(!scene.directory.path().join("run/dhcp/dhcp.plan").exists());
    assert!(scene.directory.path().join("run/dhcp/dhcp.leases").exists());
    // And once only.
    scene.put(&scene.data("token"), "newer");
    place(&scene.config, None).unwrap();
    assert_eq!(scene.text("token"), "newer");
}

#[test]
fn nobody_gets_a_shell_by_a_backup() {
    let scene = Scene::new();
    place(&scene.config, None).unwrap();
    assert!(scene.text("kiln.toml").contains(OWN) && !scene.text("kiln.toml").contains(STRANGE));
    // Where the box had no configuration, or the backup's is none, the least is taken.
    for (own, new, left) in [("", &text_of("kiln.toml", "new")[..], "new"), (OWN, "not toml", "")] {
        let scene = Scene::new();
        let own = if own.is_empty() { String::new() } else { text_of("kiln.toml", "old") };
        scene.put(&scene.data("kiln.toml"), &own);
        scene.put(&scene.ready("kiln.toml"), new);
        place(&scene.config, None).unwrap();
        let text = scene.text("kiln.toml");
        assert!(!text.contains(STRANGE) && text.contains(left), "{text}");
        assert_eq!(text == own, left.is_empty(), "{text}");
    }
}

#[test]
fn what_is_still_coming_in_changes_nothing() {
    let scene = Scene::new();
    fs::rename(scene.config.restore().join("ready"), scene.config.restore().join("incoming")).unwrap();
    place(&scene.config, None).unwrap();
    scene.expect("old");
    assert!(!scene.config.restore().join("incoming").exists(), "nobody goes on with it");
}

#[test]
fn a_start_that_ends_between_any_two_moves_is_gone_on_with_by_the_next() {
    for moves in 0..=12 {
        let scene = Scene::new();
        let replaced = scene.config.restore().join("replaced");
        fs::create_dir_all(&replaced).unwrap();
        // As far as the earlier start came: away with the old one, in with the new one.
        for step in 0..moves {
            let part = PARTS[step / 2];
            let (from, to) = match step % 2 {
                0 => (scene.data(part), replaced.join(part)),
                _ => (scene.ready(part), scene.data(part)),
            };
            fs::rename(from, to).unwrap();
        }
        place(&scene.config, None).unwrap();
        scene.expect("new");
        assert_eq!(fs::read_dir(scene.config.restore()).unwrap().count(), 0, "{moves} moves");
    }
}

#[test]
fn a_backup_without_images_adds_what_volumes_stand_on() {
    let scene = Scene::new();
    fs::rename(scene.ready("images"), scene.ready("more-images")).unwrap();
    scene.put(&scene.ready("more-images/extents/bb/b1"), "new");
    fs::remove_file(scene.ready("kiln.toml")).unwrap();
    place(&scene.config, None).unwrap();
    assert_eq!((scene.text("store/db"), scene.text("images/extents/bb/b1")), ("new".into(), "new".into()));
    // The image that was there is there; the box's configuration is its own.
    assert!(scene.data("images/extents/aa/old").exists());
    assert_eq!(scene.text("kiln.toml"), text_of("kiln.toml", "old"));
}

#[test]
fn links_and_special_files_stop_everything_before_anything_is_moved() {
    let link = |scene: &Scene, path: PathBuf| {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(scene.data("token"), path).unwrap();
    };
    let hard = |scene: &Scene, path: PathBuf| {
        fs::remove_file(&path).unwrap();
        fs::hard_link(scene.data("token"), path).unwrap();
    };
    let setuid = |_: &Scene, path: PathBuf| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
    };
    for part in ["token", "volumes/v/volume.json", "images/extents/aa/old"] {
        for harm in [&link as &dyn Fn(&Scene, PathBuf), &hard, &setuid] {
            let scene = Scene::new();
            harm(&scene, scene.ready(part));
            let error = place(&scene.config, None).unwrap_err().to_string();
            assert!(error.contains("no plain file"), "{part}: {error}");
            scene.expect("old");
        }
    }
    let scene = Scene::new();
    fs::rename(scene.config.restore(), scene.directory.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scene.directory.path().join("elsewhere"), scene.config.restore()).unwrap();
    assert!(place(&scene.config, None).unwrap_err().to_string().contains("is no directory"));
    scene.expect("old");
}
