use super::*;
use boot::{DhcpFact, DhcpMoment};
use sansio::Time;
use std::net::Ipv4Addr;

fn lease(last: u8, until: u64) -> Lease {
    let (network, mac) = ("tenant".to_owned(), Mac([2, 0, 0, 0, 0, last]));
    let address = Ipv4Addr::new(10, 0, 0, last);
    let fact = DhcpFact::Client {
        network: network.clone(),
        mac,
        attempt: Some("n1-1-1".parse().unwrap()),
        moment: DhcpMoment::Bound,
        address: Some(address),
        architecture: None,
        vendor_class: None,
        ipxe: false,
        uuid: None,
    };
    Lease { network, mac, address, until: Time::from_secs(until), fact }
}

fn open(directory: &tempfile::TempDir) -> (Journal, Vec<Lease>) {
    Journal::open(directory.path()).unwrap()
}

#[test]
fn the_newest_lease_of_each_client_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, none) = open(&directory);
    assert_eq!(none, []);
    journal.append(&[Entry::Lease(lease(1, 10)), Entry::Lease(lease(2, 10))]).unwrap();
    let gone = Entry::Gone { network: "tenant".to_owned(), mac: lease(2, 0).mac };
    journal.append(&[Entry::Lease(lease(1, 20)), gone, Entry::Lease(lease(3, 30))]).unwrap();
    assert_eq!(open(&directory).1, [lease(1, 20), lease(3, 30)]);
    assert_eq!(open(&directory).1, [lease(1, 20), lease(3, 30)], "it was written afresh");
}

#[test]
fn wherever_a_cut_tears_the_file_the_lines_before_it_hold_and_new_ones_can_follow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dhcp.leases");
    let (mut journal, _) = open(&directory);
    journal.append(&[Entry::Lease(lease(1, 10)), Entry::Lease(lease(2, 10))]).unwrap();
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (mut journal, leases) = open(&directory);
        assert_eq!(
            leases.len(),
            usize::from(cut >= first) + usize::from(cut + 1 >= whole.len()),
            "cut at {cut}"
        );
        journal.append(&[Entry::Lease(lease(9, 10))]).unwrap();
        assert_eq!(open(&directory).1.last(), Some(&lease(9, 10)), "cut at {cut}");
    }
}

#[test]
fn a_file_that_grows_is_written_afresh_with_what_lasts() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(&directory);
    let many: Vec<Entry> = (0..=SLACK as u64).map(|i| Entry::Lease(lease(1, i))).collect();
    journal.append(&many[1..]).unwrap();
    assert!(!journal.is_long());
    journal.append(&many[..1]).unwrap();
    assert!(journal.is_long());
    journal.rewrite(&[lease(1, 7)]).unwrap();
    assert!(!journal.is_long());
    journal.append(&[Entry::Lease(lease(2, 8))]).unwrap();
    assert_eq!(open(&directory).1, [lease(1, 7), lease(2, 8)]);
}

/// A released version wrote these: they are read for ever.
#[test]
fn the_bytes_on_disk() {
    let line = br#"{"v":1,"entry":{"lease":{"network":"tenant","mac":"02:00:00:00:00:01","address":"10.0.0.1","until":10000000,"fact":{"client":{"network":"tenant","mac":"02:00:00:00:00:01","attempt":"n1-1-1","moment":"bound","address":"10.0.0.1","architecture":null,"vendor_class":null,"ipxe":false,"uuid":null}}}}}"#;
    let gone = br#"{"v":1,"entry":{"gone":{"network":"tenant","mac":"02:00:00:00:00:01"}}}"#;
    assert_eq!(lines([Entry::Lease(lease(1, 10))].iter()), [&line[..], b"\n"].concat());
    let entry = Entry::Gone { network: "tenant".to_owned(), mac: lease(1, 0).mac };
    assert_eq!(lines([entry].iter()), [&gone[..], b"\n"].concat());
}
