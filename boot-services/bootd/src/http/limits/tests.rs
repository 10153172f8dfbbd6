use super::*;

#[test]
fn all_connections_together_have_a_bound_and_give_their_place_back() {
    let limits = Limits::default();
    let address = |number: usize| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
    let mut passes: Vec<_> = (0..ALL).map(|number| limits.enter(address(number)).unwrap()).collect();
    assert!(limits.enter(address(ALL)).is_err());
    passes.pop();
    drop(limits.enter(address(ALL)).unwrap());
    passes.clear();
    let count = limits.0.lock().unwrap();
    assert!(count.all == 0 && count.each.is_empty());
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_seen_and_one_that_reads_slowly_is_not() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Instant, sleep_until, timeout};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, watcher) = Moving::new(listener.accept().await.unwrap().0);
    let patience = Duration::from_millis(600);
    let writing = async move {
        let octets = vec![1; 1 << 20];
        while server.write_all(&octets).await.is_ok() {}
    };
    let slowly = async {
        let mut octets = vec![0; 1 << 20];
        for _ in 0..20 {
            sleep_until(Instant::now() + patience / 6).await;
            client.read_exact(&mut octets).await.unwrap();
        }
    };
    tokio::select! {
        () = writing => panic!("it never ends"),
        () = async {
            tokio::select! {
                () = watcher.stalled(patience) => panic!("it was reading"),
                () = slowly => {}
            }
            timeout(patience * 10, watcher.stalled(patience)).await.unwrap();
        } => {}
    }
}
