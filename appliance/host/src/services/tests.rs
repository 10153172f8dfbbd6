use super::*;

#[test]
fn the_services_are_told_of_every_network_and_where_the_api_is() {
    let text_of = "[uplink]\ndevice = \"eth0\"\naddress = \"192.0.2.10/24\"\nntp = [\"192.0.2.1\"]\n[[network]]\nname = \"prov\"\ndevice = \"eth1\"\naddress = \"10.7.0.1/24\"\n[appliance]\nmost_image_gib = 64\n[patience]\nhand = 5\n";
    let config = Config::parse(text_of).unwrap();
    let uplink = uplink(Some(&config), None, &[Ipv4Addr::new(192, 0, 2, 10)]);
    let api = api(Some(&config), uplink);
    assert_eq!(api.to_string(), "192.0.2.10:8080");
    let table: toml::Table =
        text(Some(&config), api, Some(Path::new("/dev/watchdog0"))).unwrap().parse().unwrap();
    assert_eq!(table["appliance"]["watchdog"].as_str(), Some("/dev/watchdog0"));
    assert_eq!(table["ntp"]["servers"][0].as_str(), Some("192.0.2.1"));
    assert_eq!(table["appliance"]["api"].as_str(), Some("192.0.2.10:8080"));
    assert_eq!(table["appliance"]["most_image_gib"].as_integer(), Some(64));
    assert!(table["appliance"].get("iqn").is_none());
    assert_eq!(table["interface"][0]["device"].as_str(), Some("prov"));
    assert_eq!(table["patience"]["hand"].as_integer(), Some(5));
}

#[test]
fn without_an_address_on_the_uplink_the_api_is_the_boxs_own() {
    let api = |config, lease, there: &[Ipv4Addr]| api(config, uplink(config, lease, there));
    assert_eq!(api(None, None, &[]).to_string(), "127.0.0.1:8080");
    let dhcp = Config::parse("[uplink]\ndevice = \"eth0\"\naddress = \"dhcp\"\n[api]\nport = 99\n").unwrap();
    assert_eq!(api(Some(&dhcp), None, &[]).to_string(), "127.0.0.1:99");
    let there = [Ipv4Addr::new(192, 0, 2, 7)];
    assert_eq!(api(Some(&dhcp), "192.0.2.7/24".parse().ok(), &there).to_string(), "192.0.2.7:99");
    // Its card is missing: nobody can listen there.
    let fixed = Config::parse("[uplink]\ndevice = \"eth0\"\naddress = \"192.0.2.10/24\"\n").unwrap();
    assert_eq!(api(Some(&fixed), None, &there).to_string(), "127.0.0.1:8080");
    let table: toml::Table = text(None, api(None, None, &[]), None).unwrap().parse().unwrap();
    assert!(table.get("ntp").is_none());
    assert!(table["appliance"].get("watchdog").is_none());
    assert_eq!(table["interface"].as_array().unwrap().len(), 0);
}
