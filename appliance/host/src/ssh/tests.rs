use super::*;

#[test]
fn the_server_takes_no_password_forwards_nothing_and_listens_on_one_address() {
    let words = arguments("192.0.2.10:22\n", Path::new("/data/ssh/host_ed25519"));
    for word in ["-s", "-j", "-k"] {
        assert!(words.iter().any(|there| there == word), "{word}: {words:?}");
    }
    assert_eq!(words[words.len() - 2..], ["-p", "192.0.2.10:22"]);
    assert!(words.windows(2).any(|pair| pair == ["-r", "/data/ssh/host_ed25519"]));
}

#[test]
fn the_fingerprint_is_read_from_what_the_key_tool_prints() {
    let said =
        "Public key portion is:\nssh-ed25519 AAAA root@kiln\nFingerprint: SHA256:1rKT6aRSKmuzpKThzRuVh\n";
    assert_eq!(told_fingerprint(said).as_deref(), Some("SHA256:1rKT6aRSKmuzpKThzRuVh"));
    assert_eq!(told_fingerprint("Exited: Bad buf_getptr\n"), None);
}
