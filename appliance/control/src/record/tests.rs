use super::*;
use crate::Event;

/// An older release can read neither a newer record nor a newer format, and only of the format a copy is kept for it.
#[test]
fn a_records_version_goes_up_with_the_stores_format() {
    let versions = [
        NodeRecord::VERSION,
        VolumeRecord::VERSION,
        NetworkRecord::VERSION,
        SwitchRecord::VERSION,
        ImageRecord::VERSION,
        Discovered::VERSION,
        Generations::VERSION,
        MasterSecret::VERSION,
        Event::VERSION,
    ];
    // Whoever changes the second takes the next of the first, with a step from the format before.
    assert_eq!((store::Format::CURRENT.number, versions), (1, [1; 9]));
}
