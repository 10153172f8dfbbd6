use super::*;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test]
async fn a_log_is_cut_at_its_bound_with_a_note_and_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let attempt: Attempt = "n1-1-1".parse().unwrap();
    let line = "ä".repeat(1000);
    let mut log = LogFile::new(&directory.path().join("logs"), &attempt);
    for _ in 0..30 {
        log = log.append(vec![line.clone(); 100]).await;
    }
    // Another connection of the attempt opens it anew.
    let again = LogFile::new(&directory.path().join("logs"), &attempt).append(vec![line]).await;
    let path = directory.path().join("logs/n1-1-1.log");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.len() as u64, MOST + NOTE.len() as u64);
    assert!(text.ends_with(NOTE) && again.path == path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("logs"), "a file").unwrap();
    let log = LogFile::new(&directory.path().join("logs"), &"n1".parse().unwrap());
    assert!(log.append(vec!["x".to_owned()]).await.complained);
}
