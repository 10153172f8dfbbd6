use super::*;
use std::time::Duration;
use tokio::time::timeout;

fn peer(last: u16) -> SocketAddr {
    let [high, low] = last.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 1000))
}

fn waiting(outbox: &Outbox) -> BTreeMap<String, Option<HttpFact>> {
    outbox.state().waiting.clone()
}

#[tokio::test]
async fn the_latest_of_each_key_waits_and_whoever_waits_is_woken() {
    let outbox = Outbox::default();
    outbox.asset(peer(1), "/a", 0, 10);
    outbox.asset(peer(1), "/a", 10, 10);
    let (key, fact) = outbox.next().await;
    assert_eq!(key, "asset/10.0.0.1");
    assert!(matches!(fact, Some(HttpFact::Asset { sent: 10, .. })));
    assert!(timeout(Duration::from_millis(20), outbox.next()).await.is_err());
    let told = async { outbox.script(peer(1), &"n1".parse().unwrap()) };
    let (next, ()) = tokio::join!(outbox.next(), told);
    assert_eq!(next.0, "script/n1");
}

#[tokio::test]
async fn a_flood_of_refusals_from_one_address_is_thinned_out() {
    let outbox = Outbox::default();
    for number in 0..100 {
        outbox.lost(peer(1), &format!("/{number}"), "not in the plan".to_owned());
    }
    let fact = waiting(&outbox).remove("lost/10.0.0.1").unwrap();
    assert!(matches!(fact, Some(HttpFact::Lost { path, .. }) if path == format!("/{}", BURST - 1)));
}

#[tokio::test]
async fn a_flood_of_addresses_forgets_the_first_ones() {
    let outbox = Outbox::default();
    for number in 0..ADDRESSES as u16 + 5 {
        outbox.lost(peer(number), &"x".repeat(1000), String::new());
        outbox.asset(peer(number), "/a", 1, 1);
    }
    for kind in ["lost", "asset"] {
        let waiting = waiting(&outbox);
        let of_kind = waiting.iter().filter(|(key, _)| key.starts_with(kind));
        let (told, forgotten): (Vec<_>, Vec<_>) = of_kind.partition(|(_, fact)| fact.is_some());
        assert_eq!((told.len(), forgotten.len()), (ADDRESSES, 5));
        assert_eq!(waiting.get(&format!("{kind}/10.0.0.4")), Some(&None));
    }
    let fact = waiting(&outbox).remove("lost/10.0.1.0").unwrap();
    assert!(matches!(fact, Some(HttpFact::Lost { path, .. }) if path.len() == 200));
    assert!(outbox.state().allowances.len() <= ADDRESSES);
}
