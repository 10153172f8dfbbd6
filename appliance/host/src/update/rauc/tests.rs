use super::*;

#[test]
fn only_a_line_with_a_percentage_is_progress() {
    assert_eq!(progress_of(" 40% Checking bundle done."), Some((40, "Checking bundle done.")));
    assert_eq!(progress_of("100% Installing done."), Some((100, "Installing done.")));
    for line in ["", "Installing `/data/x.raucb` succeeded", "-3% x", "101% x", "300% x", "% x"] {
        assert_eq!(progress_of(line), None, "{line}");
    }
}

#[test]
fn of_what_rauc_logs_the_reason_is_told_with_what_to_do() {
    let line = "(rauc:193): rauc-WARNING **: 13:04:33.017: Invalid bundle format: Signature size (1) exceeds bundle size";
    let why = reason(line).unwrap_or_default();
    assert_eq!(why, "Invalid bundle format: Signature size (1) exceeds bundle size");
    assert_eq!(advice(why), ". It is no whole bundle: get it again");
    assert_eq!(reason("rauc-event-Message: 13:04:33.014: Installation c5f99806 begins"), None);
    assert_eq!(advice("no such device"), "");
}

#[test]
fn a_bundle_s_description_is_a_line_of_what_rauc_says_of_it() {
    let said =
        "RAUC_MF_COMPATIBLE='kiln-x86-64'\nRAUC_MF_DESCRIPTION='with a signed kernel image'\nRAUC_IMAGES=1\n";
    assert_eq!(described(said), "with a signed kernel image");
    assert_eq!(described("RAUC_MF_COMPATIBLE='kiln-x86-64'\n"), "");
}
