/// Appends octets as netascii (RFC 764): LF becomes CR LF, CR becomes CR NUL.
pub(crate) fn append(to: &mut impl Extend<u8>, octets: &[u8]) {
    for octet in octets {
        match octet {
            b'\n' => to.extend([b'\r', b'\n']),
            b'\r' => to.extend([b'\r', 0]),
            other => to.extend([*other]),
        }
    }
}
