use super::*;

#[test]
fn the_last_number_of_the_command_line_is_the_trial_s_patience() {
    assert_eq!(patience("quiet kiln.slot=A"), PATIENCE);
    assert_eq!(patience("kiln.trial=soon"), PATIENCE);
    assert_eq!(patience("kiln.trial=90 quiet kiln.trial=30"), Duration::from_secs(30));
}
