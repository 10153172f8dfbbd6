//! The main job, when nothing goes wrong.

use crate::judge;
use crate::machine::Content;
use crate::stage::{active, deploy, ready, undeploy};

#[test]
fn a_deployment_goes_through_all_its_steps_and_ends_active() {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    let view = world.settle("n1", "active");
    judge::deployed_once(&world, "n1");
    assert!(view.address.is_some() && view.failure.is_none());
}

#[test]
fn a_node_that_is_taken_back_is_wiped_and_ends_off_in_quarantine() {
    let mut world = active();
    world.intend(undeploy(1)).unwrap();
    let view = world.settle("n1", "available");
    judge::put_away(&world, "n1");
    assert_eq!(world.machine("n1").disk.content, Content::Blank);
    assert_eq!(world.machine("n1").ledger.wipes_done.len(), 1);
    assert_eq!((view.image, view.network, view.address), (None, None, None));
    let states: Vec<String> = world.events("n1", "state").into_iter().map(|event| event.text).collect();
    let tail = [
        "active -> deleting",
        "deleting -> cleaning",
        "cleaning -> clean wait",
        "clean wait -> cleaning",
        "cleaning -> available",
    ];
    assert!(states.ends_with(&tail.map(str::to_owned)), "{states:?}");
}
