use super::*;
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};

const CONFIG: &str = r#"
[uplink]
device = "52:54:00:aa:00:01"
address = "192.0.2.10/24"
[oob]
device = "eth1"
address = "10.8.0.1/24"
[trunk]
device = "bond0"
[[network]]
name = "prov"
vlan = 100
address = "10.7.0.1/24"
[[bond]]
name = "bond0"
members = ["52:54:00:aa:00:03", "52:54:00:aa:00:04"]
mode = "active-backup"
"#;

fn wishes() -> Wishes {
    Wishes::of(&Config::parse(CONFIG).unwrap())
}

fn card(index: u32) -> Link {
    Link {
        index,
        name: format!("eth{}", index - 1),
        first_name: None,
        mac: Some(Mac([0x52, 0x54, 0, 0xaa, 0, index as u8])),
        kind: Kind::Card,
        up: false,
        carrier: false,
        bond: None,
    }
}

/// A kernel that does as it is told.
#[derive(Default)]
struct Kernel {
    links: Vec<Link>,
    addresses: Vec<(u32, Prefix)>,
}

impl Kernel {
    fn act(&mut self, act: &Act) {
        let next = self.links.len() as u32 + 1;
        let new = |name: &str, kind| Link { kind, mac: None, name: name.to_owned(), ..card(next) };
        let mut on = |index: u32, change: &dyn Fn(&mut Link)| {
            change(self.links.iter_mut().find(|link| link.index == index).expect("an interface"));
        };
        match act {
            Act::Down(index) => on(*index, &|link| link.up = false),
            Act::Up(index) => on(*index, &|link| link.up = true),
            Act::Rename { index, from, to } => {
                assert!(self.links.iter().all(|link| link.name != *to), "{to} is taken");
                let link = self.links.iter_mut().find(|link| link.index == *index).expect("an interface");
                assert!(!link.up && link.name == *from);
                link.first_name.get_or_insert(from.clone());
                link.name.clone_from(to);
            }
            Act::NewBond { name, .. } => self.links.push(new(name, Kind::Bond)),
            Act::NewVlan { name, .. } => self.links.push(new(name, Kind::Vlan)),
            Act::Join { index, bond } => on(*index, &|link| (link.bond, link.up) = (Some(*bond), true)),
            Act::AddAddress { index, address, length } => {
                self.addresses.push((*index, Prefix { address: *address, length: *length }));
            }
            Act::RemoveAddress { index, address, length } => {
                let gone = (*index, Prefix { address: *address, length: *length });
                self.addresses.retain(|there| *there != gone);
            }
        }
    }

    fn settle(&mut self, wishes: &Wishes) -> Vec<Act> {
        let mut done = Vec::new();
        loop {
            let acts = wishes.acts(&self.links, &self.addresses, &BTreeSet::new());
            if acts.is_empty() {
                return done;
            }
            for act in acts {
                self.act(&act);
                done.push(act);
            }
            assert!(done.len() < 100, "it does not end: {done:?}");
        }
    }

    fn names(&self) -> Vec<&str> {
        self.links.iter().map(|link| link.name.as_str()).collect()
    }
}

#[test]
fn a_card_that_is_called_like_a_vlan_is_not_taken_for_it() {
    let mut links: Vec<Link> = (1..=5).map(card).collect();
    let text = CONFIG.replace("name = \"prov\"", "name = \"eth4\"");
    let wishes = Wishes::of(&Config::parse(&text).unwrap());
    let acts = wishes.acts(&links, &[], &BTreeSet::new());
    let away = Act::Rename { index: 5, from: "eth4".to_owned(), to: "was-5".to_owned() };
    assert_eq!(acts, [away]);
    links[4].name = "was-5".to_owned();
    let acts = wishes.acts(&links, &[], &BTreeSet::new());
    assert!(acts.iter().all(|act| !matches!(act, Act::Rename { index: 5, .. })), "{acts:?}");
}

#[test]
fn interfaces_get_their_roles_and_twice_is_once() {
    let mut kernel = Kernel { links: (1..=4).map(card).collect(), ..Kernel::default() };
    kernel.settle(&wishes());
    assert_eq!(kernel.names(), ["uplink", "oob", "eth2", "eth3", "trunk", "prov"]);
    assert_eq!(kernel.links[2].bond, Some(5));
    let addresses: Vec<String> = kernel.addresses.iter().map(|(index, p)| format!("{index} {p}")).collect();
    assert_eq!(addresses, ["1 192.0.2.10/24", "2 10.8.0.1/24", "6 10.7.0.1/24"]);
    assert!(kernel.links.iter().all(|link| link.up));
    assert_eq!(kernel.settle(&wishes()), []);
}

#[test]
fn a_card_that_appears_late_is_taken_up_then() {
    let mut kernel = Kernel { links: vec![card(1), card(2), card(3)], ..Kernel::default() };
    let missing = |kernel: &Kernel| {
        let missing = wishes().missing(&kernel.links);
        missing.into_iter().map(|(nic, role)| format!("{nic} {role}")).collect::<Vec<_>>()
    };
    assert_eq!(missing(&kernel), ["52:54:00:aa:00:04 trunk"]);
    kernel.settle(&wishes());
    let late = Link { index: 9, name: "eth0".to_owned(), ..card(4) };
    kernel.links.push(late);
    assert_eq!(missing(&kernel), [""; 0]);
    assert_eq!(kernel.settle(&wishes()), [Act::Join { index: 9, bond: 4 }]);
}

#[test]
fn names_that_others_have_are_taken_from_them() {
    let mut kernel = Kernel { links: (1..=4).map(card).collect(), ..Kernel::default() };
    kernel.links[1].name = "uplink".to_owned();
    kernel.links[1].first_name = Some("eth1".to_owned());
    kernel.links[1].up = true;
    kernel.links[0].name = "oob".to_owned();
    kernel.settle(&wishes());
    assert_eq!(kernel.names()[..2], ["uplink", "oob"]);
    // What the kernel called it is known still.
    assert_eq!(kernel.links[1].first_name.as_deref(), Some("eth1"));
}

#[test]
fn an_address_that_is_not_wished_for_goes_and_one_by_dhcp_stays() {
    let mut kernel = Kernel { links: (1..=4).map(card).collect(), ..Kernel::default() };
    kernel.settle(&wishes());
    kernel.addresses[0].1 = "192.0.2.99/24".parse().unwrap();
    let expected = ["removing 192.0.2.99/24", "giving 192.0.2.10/24"];
    let done: Vec<String> = kernel.settle(&wishes()).iter().map(ToString::to_string).collect();
    assert_eq!(done, expected);
    let dhcp = Config::parse(&CONFIG.replace("192.0.2.10/24", "dhcp")).unwrap();
    assert_eq!(kernel.settle(&Wishes::of(&dhcp)), []);
}

#[test]
fn what_was_tried_in_vain_is_not_tried_again_and_keeps_nothing_else() {
    let kernel = Kernel { links: (1..=4).map(card).collect(), ..Kernel::default() };
    let first = wishes().acts(&kernel.links, &[], &BTreeSet::new());
    let failed: BTreeSet<Act> = first.iter().cloned().collect();
    assert!(first.iter().all(|act| matches!(act, Act::Rename { .. })));
    let next = wishes().acts(&kernel.links, &[], &failed);
    assert_eq!(next, [Act::NewBond { name: "trunk".into(), lacp: false }]);
}

/// The body of a request, behind the header that the socket fills in.
fn body(act: &Act) -> Vec<u8> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(act.message()));
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    octets[16..].to_vec()
}

#[test]
fn a_vlan_is_asked_for_as_ip_link_asks() {
    // ip link add link trunk name prov type vlan id 100: struct ifinfomsg, IFLA_IFNAME, IFLA_LINK,
    // IFLA_LINKINFO { IFLA_INFO_KIND "vlan", IFLA_INFO_DATA { IFLA_VLAN_ID 100 } }.
    let mut expected = vec![0; 16];
    expected.extend([9, 0, 3, 0, b'p', b'r', b'o', b'v', 0, 0, 0, 0]);
    expected.extend([8, 0, 5, 0, 7, 0, 0, 0]);
    expected.extend([28, 0, 18, 0, 9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0]);
    expected.extend([12, 0, 2, 0, 6, 0, 1, 0, 100, 0, 0, 0]);
    assert_eq!(body(&Act::NewVlan { name: "prov".into(), vlan: 100, parent: 7 }), expected);
}

#[test]
fn a_bond_is_asked_for_as_ip_link_asks() {
    // ip link add trunk type bond mode 802.3ad miimon 100 xmit_hash_policy layer3+4
    let mut expected = vec![0; 16];
    expected.extend([10, 0, 3, 0, b't', b'r', b'u', b'n', b'k', 0, 0, 0]);
    expected.extend([44, 0, 18, 0, 9, 0, 1, 0, b'b', b'o', b'n', b'd', 0, 0, 0, 0]);
    expected.extend([28, 0, 2, 0]);
    expected.extend([5, 0, 1, 0, 4, 0, 0, 0]);
    expected.extend([8, 0, 3, 0, 100, 0, 0, 0]);
    expected.extend([5, 0, 14, 0, 1, 0, 0, 0]);
    assert_eq!(body(&Act::NewBond { name: "trunk".into(), lacp: true }), expected);
}
