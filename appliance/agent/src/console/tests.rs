use super::*;

fn said(args: std::fmt::Arguments<'_>, fields: &[(&str, &str)]) -> String {
    line(&Record::builder().level(Level::Warn).args(args).key_values(&fields).build())
}

#[test]
fn a_line_is_a_phrase_and_fields() {
    let fields = [("interface", "eth0"), ("model", "QEMU HARDDISK")];
    assert_eq!(
        said(format_args!("lease got"), &fields),
        r#"warn lease got interface=eth0 model="QEMU HARDDISK""#
    );
}

#[test]
fn what_a_disk_calls_itself_cannot_forge_a_line() {
    let fields = [("serial", "a\nerror b \"c\"\u{1b}[2J")];
    assert_eq!(said(format_args!("disk"), &fields), r#"warn disk serial="a\nerror b 'c'\u{1b}[2J""#);
}
