#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use std::net::TcpListener;

fn line() -> (Line, Arc<Bell>, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let bell = Bell::new(listener.accept().unwrap().0).unwrap();
    (Line::new(Arc::clone(&bell)), bell, peer)
}

#[test]
fn what_was_received_is_there_until_it_is_taken() {
    let (mut line, _bell, mut peer) = line();
    peer.write_all(b"octets").unwrap();
    assert!(matches!(line.wait(None), Waited::Octets));
    assert_eq!(line.octets(), b"octets");
    line.take(3);
    peer.write_all(b" and more").unwrap();
    assert!(matches!(line.wait(None), Waited::Octets));
    assert_eq!(line.octets(), b"ets and more");
}

#[test]
fn the_buffer_is_used_to_its_end_and_from_its_beginning_again() {
    let (mut line, _bell, mut peer) = line();
    let sent: Vec<u8> = (0..3 * BUFFER).map(|n| (n / 7 % 251) as u8).collect();
    let copy = sent.clone();
    let sender = std::thread::spawn(move || {
        peer.write_all(&copy).unwrap();
        peer
    });
    let mut received = Vec::new();
    while received.len() < sent.len() {
        assert!(matches!(line.wait(None), Waited::Octets));
        // Something stays every time, so that the end of the buffer is reached.
        let count = line.octets().len().saturating_sub(100).max(1);
        received.extend_from_slice(&line.octets()[..count]);
        line.take(count);
        if received.len() + line.octets().len() == sent.len() {
            received.extend_from_slice(line.octets());
        }
    }
    assert!(received == sent);
    drop(sender.join().unwrap());
    line.take(line.octets().len());
    assert!(matches!(line.wait(None), Waited::End));
}

#[test]
fn the_bell_ends_the_waiting_once() {
    let (mut line, bell, _peer) = line();
    let ringer = Arc::clone(&bell);
    let thread = std::thread::spawn(move || ringer.wake());
    assert!(matches!(line.wait(None), Waited::Alarm));
    thread.join().unwrap();
    assert!(matches!(line.wait(Some(Duration::from_millis(1))), Waited::Timeout));
    bell.wake();
    bell.wake();
    assert!(matches!(line.wait_for_alarm(None), Waited::Alarm));
    assert!(matches!(line.wait_for_alarm(Some(Duration::from_millis(1))), Waited::Timeout));
}

#[test]
fn cutting_ends_both_ways() {
    let (mut line, bell, mut peer) = line();
    bell.cut();
    assert!(matches!(line.wait(None), Waited::Alarm));
    assert!(matches!(line.wait(None), Waited::End));
    assert!(line.send(b"octets").is_err());
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_is_gathered_goes_out_before_what_is_sent() {
    let (mut line, _bell, mut peer) = line();
    line.gather(b"one ").unwrap();
    line.gather(b"two ").unwrap();
    line.send(b"three").unwrap();
    let mut octets = [0; 13];
    peer.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"one two three");
}
