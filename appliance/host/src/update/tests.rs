#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

fn record(stage: Stage) -> Option<Record> {
    Some(Record { number: 7, stage })
}

#[test]
fn a_trial_s_end_is_written_where_the_update_is_of_that_slot() {
    let installed = || record(Stage::Installed { slot: Slot::B, version: "2".to_owned() });
    let good = Stage::Good { slot: Slot::B, version: "2".to_owned() };
    assert_eq!(ended(installed(), Slot::B, true, ""), record(good.clone()));
    assert_eq!(ended(installed(), Slot::A, true, ""), None);
    assert_eq!(ended(record(good), Slot::B, false, "late"), None, "an end is an end");
    let why = "version 2 in slot B failed its trial: no disk".to_owned();
    assert_eq!(ended(installed(), Slot::B, false, "no disk"), record(Stage::Failed { why }));
    assert_eq!(ended(None, Slot::B, true, ""), None);
}

#[test]
fn a_record_that_cannot_be_read_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("update.json");
    assert_eq!(Record::read_from(&file), None);
    fs::write(&file, "{\"number\": 7, \"stage\": {\"sta").unwrap();
    assert_eq!(Record::read_from(&file), None);
    let kept = record(Stage::Writing { percent: 3, doing: "it".to_owned() }).unwrap();
    fs::write(&file, serde_json::to_vec(&kept).unwrap()).unwrap();
    assert_eq!(Record::read_from(&file), Some(kept));
}
