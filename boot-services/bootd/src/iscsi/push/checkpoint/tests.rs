use super::*;

fn attempt(text: &str) -> Attempt {
    text.parse().unwrap()
}

#[test]
fn what_is_remembered_is_the_same_afterwards_and_its_bytes_are_pinned() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(Some(directory.path()), &attempt("n1-4.2"));
    let image = Digest([0xab; 32]);
    assert_eq!(place.read(image), None);
    let mut checkpoint = Checkpoint::new(image, "naa.5".into());
    checkpoint.stage = Stage::Read { from: 7 };
    checkpoint.wrong = std::iter::once(1..3).collect();
    checkpoint.sent = 9;
    place.write(&checkpoint).unwrap();
    assert_eq!(place.read(image), Some(checkpoint));
    assert_eq!(
        fs::read_to_string(directory.path().join("push-n1-4.2")).unwrap(),
        format!(
            r#"{{"version":1,"image":"{}","disk":"naa.5","stage":{{"read":{{"from":7}}}},"wrong":[{{"start":1,"end":3}}],"sent":9}}"#,
            "ab".repeat(32)
        )
    );
}

#[test]
fn what_is_of_another_image_or_no_checkpoint_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(Some(directory.path()), &attempt("n1"));
    place.write(&Checkpoint::new(Digest([1; 32]), String::new())).unwrap();
    assert_eq!(place.read(Digest([2; 32])), None);
    let path = directory.path().join("push-n1");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(place.read(Digest([1; 32])), None, "{length}");
    }
}

#[test]
fn what_left_the_plan_is_forgotten_and_other_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["push-n1", "push-n2", "push-n2~", "iscsi.plan"] {
        fs::write(directory.path().join(name), "").unwrap();
    }
    sweep(directory.path(), &[&attempt("n1")]).unwrap();
    let mut left: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["iscsi.plan", "push-n1"]);
}
