use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use super::{Key, Workshop, deliver};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("workshop-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_same_name_is_made_once() {
    let folder = Folder::new("once");
    let workshop = Workshop::at(&folder.0).unwrap();
    let times = Cell::new(0);
    let make = || {
        workshop.make("thing", |scratch| {
            times.set(times.get() + 1);
            let path = scratch.join("out");
            fs::write(&path, "x")?;
            Ok(path)
        })
    };
    assert!(make().unwrap().fresh);
    assert!(!make().unwrap().fresh);
    assert_eq!(times.get(), 1);
}

#[test]
fn a_recipe_that_fails_leaves_nothing_and_is_tried_again() {
    let folder = Folder::new("fails");
    let workshop = Workshop::at(&folder.0).unwrap();
    let error = workshop.make("thing", |_| anyhow::bail!("no flour")).unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot make thing: no flour");
    let left: Vec<_> =
        fs::read_dir(folder.0.join("artifacts")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [".thing.lock"]);
}

#[test]
fn what_a_dead_process_left_is_removed() {
    let folder = Folder::new("dead");
    let workshop = Workshop::at(&folder.0).unwrap();
    // Above the highest process id Linux gives (2^22).
    let left = folder.0.join("artifacts/.scratch-4194999-thing");
    fs::create_dir(&left).unwrap();
    workshop.make("other", |scratch| Ok(scratch.to_owned())).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_copy_that_is_there_is_not_made_again() {
    let folder = Folder::new("copy");
    let (from, to) = (folder.0.join("from"), folder.0.join("to"));
    fs::write(&from, "content").unwrap();
    assert!(deliver(&from, &to).unwrap());
    assert!(!deliver(&from, &to).unwrap());
    fs::write(&to, "touched").unwrap();
    assert!(deliver(&from, &to).unwrap());
}

#[test]
fn a_key_tells_parts_from_their_concatenation() {
    assert_ne!(Key::new("a", 1).with("bc").name(), Key::new("ab", 1).with("c").name());
    assert_ne!(Key::new("a", 1).name(), Key::new("a", 2).name());
}
