use super::*;

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlVi8bWcSDEiEYAgvE8ZoRWYh81VgJsoLWfgnlWrYrd anna@desk";
const P521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAD7pCRhjyYC3i1B7lAome7ExE0Tc9wPIAdRmZ46zvzNGKH4UvaJZwMYOi5rOOn1CqCFM1tJ+VzrhDf8K3uD9CjG5QHdDRBMkH3ie2UsQcb3H2nLhw6o7elt8m1Nnn+lNLSlJxUAaZf3XvcSlu33142djvyXdsu/NgWku2njyc6Pxt7WWw==";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFmhADKIm0KJAPgLkN9mjle40/LVR5UOrg8FcOxf33tmPag+gfeKvl35WHXnuyjxPKg7DmxAzCwkMN8jI4FIZF8Nghb7ftgM0zu8Mo1Q56K6cgia0J2suQE+tI7HWnmskMEhK0PL9x7Bs8I0kq0kUXktvReWFCbwR/5ENHc7bwhHTUesLAP4kY75Mmik7HuqW4Rf3292f/bXaqqRRHit87eLsqCithmC55WFbeZZ700TD5hL8jK/NGXJxU3BYDxy/kKsOuTg6svXtL1XNnukD/Sl0w1oeFScq2todF/Qxw5OS5la1vGzgEIy8NHQ760jeqQ6c8M4ibh/nCOzrZjslP";
const RSA_OF_1024_BITS: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC9eZPOJ2PyKwAmTJvTSCRGQmKqw5YWkSzB/mk0e5BwuMNXFq6zrBNkMhkaevTRcTc8O+a8U6N9GAZz+LeX9mgIVJDUNcEJFac51nrLJqnQjdQ4AOS7XZiqiS13tGh4ymCEON/rmU+MiXZwmfSXcIjs8rge98ZQnVc6RtX0WHe+ew==";

#[test]
fn a_line_of_a_pub_file_is_a_key_and_is_written_as_it_was() {
    for line in [ED25519, P521, RSA] {
        let key: SshKey = format!("{line}\n").parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(key.to_string().trim_end(), line);
    }
}

#[test]
fn what_is_no_key_is_refused_with_what_to_do() {
    let cut = &ED25519[..ED25519.len() - 14];
    let other_kind = ED25519.replacen("ssh-ed25519", "ssh-rsa", 1);
    let table = [
        ("", "which begins with ssh-ed25519"),
        ("anna", "which begins with ssh-ed25519"),
        ("command=\"/bin/sh\" ssh-ed25519 AAAA", "which begins with ssh-ed25519"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAP", "which begins with ssh-ed25519"),
        ("ssh-ed25519", "cut short or changed"),
        (cut, "cut short or changed"),
        (&other_kind, "cut short or changed"),
        ("ssh-ed25519 not*base64", "cut short or changed"),
        (RSA_OF_1024_BITS, "an RSA key of 2048 bits or more"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "this is a private one"),
    ];
    for (text, expected) in table {
        let said = text.parse::<SshKey>().expect_err(text).to_string();
        assert!(said.contains(expected), "{text}: {said}");
    }
    // A second line would be a second key, which nobody checked.
    let two = format!("{ED25519}\nssh-ed25519 AAAA");
    assert!(two.parse::<SshKey>().expect_err("two lines").to_string().contains("on one line"));
}

#[test]
fn no_octets_in_base64_make_it_panic() {
    for length in 0..64_usize {
        for first in [0_u8, 4, 255] {
            let blob: Vec<u8> = (0..length).map(|at| first.wrapping_mul(at as u8)).collect();
            for kind in KINDS {
                assert!(format!("{kind} {}", STANDARD.encode(&blob)).parse::<SshKey>().is_err());
            }
        }
    }
}
