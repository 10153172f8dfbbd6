use super::*;
use agent_proto::{Phase, Task};
use boot::DiskHint;

fn job(id: &str) -> Job {
    Job { id: id.into(), task: Task::EraseMetadata { disk: DiskHint::default() } }
}

fn order(id: Option<&str>) -> Order {
    Order { version: agent_proto::VERSION, job: id.map(job) }
}

fn running(done: u64) -> JobState {
    JobState::Running(Progress { phase: Phase::Write, done, total: 10 })
}

#[test]
fn an_order_that_is_said_again_is_one_job() {
    let board = Board::new();
    board.order(order(Some("write")));
    assert_eq!(board.next_job(), job("write"));
    board.order(order(Some("write")));
    assert!(!board.is_superseded());
    board.order(order(None));
    assert!(!board.is_superseded(), "no job lets the one under way go on");
}

#[test]
fn another_job_supersedes_the_one_under_way_until_that_is_ordered_again() {
    let board = Board::new();
    board.order(order(Some("write")));
    board.next_job();
    board.order(order(Some("erase")));
    assert!(board.is_superseded());
    board.order(order(Some("write")));
    assert!(!board.is_superseded());
}

#[test]
fn an_order_that_is_taken_back_before_it_was_begun_is_not_done() {
    let board = Board::new();
    board.order(order(Some("write")));
    board.order(order(None));
    assert_eq!(board.lock().wanted, None);
}

#[test]
fn a_job_that_was_stopped_can_be_ordered_again() {
    let board = Board::new();
    board.order(order(Some("write")));
    board.next_job();
    board.order(order(Some("erase")));
    board.stopped("write");
    board.next_job();
    board.order(order(Some("write")));
    assert_eq!(board.next_job(), job("write"));
}

#[test]
fn an_order_that_cannot_be_read_is_a_failed_job_and_said_once() {
    let board = Board::new();
    board.refuse("fly".into(), "no such task".into());
    let mut pace = Pace::default();
    let status = board.news(1, &mut pace).status.unwrap();
    let JobState::Failed(failure) = status.job.unwrap().state else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::BadOrder);
    let steps = board.lock().steps;
    board.refuse("fly".into(), "no such task".into());
    assert_eq!(board.lock().steps, steps);
}

#[test]
fn progress_within_a_phase_can_wait_and_all_else_is_said_at_once() {
    let board = Board::new();
    board.set_job("write", running(1));
    let before = board.lock().steps;
    board.set_job("write", running(2));
    assert_eq!(board.lock().ticks, 1);
    assert_eq!(board.lock().steps, before);
    board.set_job("write", JobState::Running(Progress { phase: Phase::Verify, done: 0, total: 10 }));
    assert_eq!(board.lock().steps, before + 1);
}

#[test]
fn every_connection_begins_with_the_whole_status() {
    let board = Board::new();
    for line in 1..3 {
        let news = board.news(line, &mut Pace::default());
        assert!(news.status.is_some());
        board.end(line);
        assert!(board.news(line, &mut Pace::default()).ended);
    }
}

#[test]
fn log_lines_stay_until_they_are_confirmed() {
    let board = Board::new();
    board.line("one".into(), Time::ZERO);
    let (lines, number) = board.news(1, &mut Pace::default()).lines.unwrap();
    assert_eq!(lines, ["one"]);
    board.line("two".into(), Time::ZERO);
    let (lines, _) = board.news(2, &mut Pace::default()).lines.unwrap();
    assert_eq!(lines, ["one", "two"]);
    board.lines_said(number);
    let (lines, _) = board.news(3, &mut Pace::default()).lines.unwrap();
    assert_eq!(lines, ["two"]);
}

#[test]
fn the_oldest_log_lines_are_dropped_with_a_note_and_long_ones_are_cut() {
    let board = Board::new();
    board.line("é".repeat(LINE), Time::ZERO);
    assert!(board.lock().lines.waiting[0].len() <= LINE);
    for number in 0..LINES + 5 {
        board.line(number.to_string(), Time::ZERO);
    }
    assert_eq!(board.lock().lines.waiting.len(), LINES);
    let (lines, _) = board.news(1, &mut Pace::default()).lines.unwrap();
    assert_eq!(lines[..2], ["log lines lost count=6".to_owned(), "5".to_owned()]);
    assert_eq!(lines.len(), BATCH + 1);
}
