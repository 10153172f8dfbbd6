use super::*;
use crate::codec::{Mode, read_request};
use boot::TftpFile;

fn server() -> Server {
    let mut server = Server::new();
    let file = |name: &str| TftpFile { name: name.to_owned(), path: format!("/srv/{name}") };
    server.handle_plan(&TftpPlan {
        listen: Vec::new(),
        files: vec![file("snponly.efi"), file("x64/boot.efi")],
    });
    server
}

fn peer(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 7, 0, host], port))
}

fn ask(server: &mut Server, from: SocketAddr, name: &str) -> Verdict {
    server.handle_request(from, &read_request(name, Mode::Octet, &[]))
}

fn refusal(verdict: Verdict) -> u16 {
    match verdict {
        Verdict::Refuse { packet, .. } => match codec::parse(&packet) {
            Some(Packet::Error(code, _)) => code,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_those_of_the_plan_however_clients_write_them() {
    let mut server = server();
    for (port, name) in
        ["snponly.efi", "/snponly.efi", "//snponly.efi", "\\snponly.efi", "x64\\boot.efi", "/x64/boot.efi"]
            .iter()
            .enumerate()
    {
        assert!(matches!(ask(&mut server, peer(port as u8, 1000), name), Verdict::Begin { .. }), "{name}");
    }
    for name in
        ["../snponly.efi", "x64/../snponly.efi", "SNPONLY.EFI", "", "/", "srv/snponly.efi", "boot.efi"]
    {
        assert_eq!(refusal(ask(&mut server, peer(9, 1), name)), 1, "{name}");
    }
}

#[test]
fn nothing_is_written_and_nothing_is_mailed() {
    let mut server = server();
    assert_eq!(refusal(server.handle_request(peer(1, 1), b"\0\x02f\0octet\0")), 2);
    assert_eq!(refusal(server.handle_request(peer(1, 1), b"\0\x01snponly.efi\0mail\0")), 4);
    assert_eq!(server.handle_request(peer(1, 1), &codec::ack(0)), Verdict::Ignore);
}

#[test]
fn a_request_that_is_repeated_does_not_begin_twice() {
    let mut server = server();
    let Verdict::Begin { id, .. } = ask(&mut server, peer(1, 1), "snponly.efi") else { panic!() };
    assert_eq!(ask(&mut server, peer(1, 1), "snponly.efi"), Verdict::Ignore);
    server.handle_ended(id);
    assert!(matches!(ask(&mut server, peer(1, 1), "snponly.efi"), Verdict::Begin { .. }));
}

#[test]
fn transfers_are_bounded_for_each_address_and_for_all() {
    let mut server = server();
    let mut ids = Vec::new();
    for port in 0..8 {
        let Verdict::Begin { id, .. } = ask(&mut server, peer(1, port), "snponly.efi") else { panic!() };
        ids.push(id);
    }
    assert_eq!(refusal(ask(&mut server, peer(1, 99), "snponly.efi")), 0);
    server.handle_ended(ids[3]);
    assert!(matches!(ask(&mut server, peer(1, 99), "snponly.efi"), Verdict::Begin { .. }));
    let mut begun = 8;
    for host in 2..=200 {
        for port in 0..2 {
            begun += usize::from(matches!(
                ask(&mut server, peer(host, port), "snponly.efi"),
                Verdict::Begin { .. }
            ));
        }
    }
    assert_eq!(begun, MOST);
}
