use super::*;
use md5::Digest as _;

fn credentials(user: &str, secret: &str) -> Credentials {
    Credentials { user: user.to_owned(), secret: Secret::new(secret).unwrap() }
}

fn one_way() -> Chap {
    Chap::new(credentials("node1", "one-two-three"), None).unwrap()
}

fn mutual() -> Chap {
    Chap::new(credentials("node1", "one-two-three"), Some(credentials("kiln", "four-five-six"))).unwrap()
}

fn ask(chap: Option<Chap>) -> Initiator {
    Initiator::new(chap, &Algorithm::ALL, Nonce([1; 33]))
}

fn accept(chap: Chap) -> Target {
    Target::new(false, vec![chap], Nonce([2; 33]))
}

/// Runs the stage to its end; gives all that was sent.
fn run(initiator: &mut Initiator, target: &mut Target) -> Result<Vec<Vec<Pair>>, Refused> {
    let mut sent = vec![initiator.first()];
    for _ in 0..8 {
        let answer = target.handle(sent.last().unwrap())?;
        sent.push(answer.pairs.clone());
        let next = initiator.handle(&answer.pairs)?;
        if answer.done && initiator.is_content() {
            return Ok(sent);
        }
        sent.push(next.pairs);
    }
    panic!("no end: {sent:?}");
}

fn with(pairs: &[Pair], key: &str, value: &str) -> Vec<Pair> {
    let others = pairs.iter().filter(|pair| pair.key != key).cloned();
    others.chain([Pair::new(key, value)]).collect()
}

#[test]
fn both_ends_are_content_with_every_algorithm_one_way_and_mutual() {
    for chap in [one_way(), mutual()] {
        for algorithm in Algorithm::ALL {
            let mut initiator = Initiator::new(Some(chap.clone()), &[algorithm], Nonce([1; 33]));
            let mut target = accept(chap.clone());
            let sent = run(&mut initiator, &mut target).unwrap();
            assert_eq!(crate::text::value(&sent[3], "CHAP_A"), Some(&*algorithm.number().to_string()));
            assert!(initiator.is_content() && target.is_content());
            assert_eq!(target.user(), Some("node1"));
        }
    }
}

#[test]
fn the_best_algorithm_of_both_is_taken() {
    let mut target = accept(one_way());
    target.handle(&[Pair::new("AuthMethod", "KRB5,CHAP,None")]).unwrap();
    let step = target.handle(&[Pair::new("CHAP_A", "5,6,7")]).unwrap();
    assert_eq!(step.pairs[0], Pair::new("CHAP_A", 7));
    assert_eq!(step.pairs[2].value.len(), 2 + 64);
}

// RFC 1994, 4.1: identifier, secret, challenge.
#[test]
fn the_response_is_the_hash_of_identifier_secret_and_challenge() {
    let mut target = accept(one_way());
    target.handle(&[Pair::new("AuthMethod", "CHAP")]).unwrap();
    let step = target.handle(&[Pair::new("CHAP_A", "5")]).unwrap();
    assert_eq!(step.pairs[1], Pair::new("CHAP_I", 2));
    assert_eq!(step.pairs[2], Pair::new("CHAP_C", format!("0x{}", "02".repeat(16))));
    let hash = md5::Md5::digest([&[2][..], b"one-two-three", &[2; 16]].concat());
    let step =
        target.handle(&[Pair::new("CHAP_N", "node1"), Pair::new("CHAP_R", binary::encode(&hash))]).unwrap();
    assert_eq!(step, Step { pairs: Vec::new(), done: true });
}

// RFC 7143, 12.1.3: with no algorithm in common the login is rejected.
#[test]
fn methods_and_algorithms_that_are_not_ours_are_refused() {
    assert!(matches!(accept(one_way()).handle(&[Pair::new("AuthMethod", "None")]), Err(Refused::Method(_))));
    assert!(matches!(
        accept(one_way()).handle(&[Pair::new("AuthMethod", "SRP,KRB5")]),
        Err(Refused::Method(_))
    ));
    let mut target = accept(one_way());
    target.handle(&[Pair::new("AuthMethod", "CHAP")]).unwrap();
    assert_eq!(target.handle(&[Pair::new("CHAP_A", "6,9")]), Err(Refused::Algorithm("6,9".to_owned())));
    assert!(target.handle(&[Pair::new("CHAP_A", "5")]).is_err(), "a refused login goes no further");
}

#[test]
fn a_wrong_secret_or_name_is_refused_and_the_refusal_holds_no_secret() {
    let wrong = Chap::new(credentials("node1", "one-two-threE"), None).unwrap();
    let refused = run(&mut ask(Some(wrong)), &mut accept(one_way())).unwrap_err();
    assert_eq!(refused, Refused::Wrong("node1".to_owned()));
    assert!(!refused.to_string().contains("one-two"));
    let stranger = Chap::new(credentials("node2", "one-two-three"), None).unwrap();
    assert_eq!(
        run(&mut ask(Some(stranger)), &mut accept(one_way())).unwrap_err(),
        Refused::Wrong("node2".to_owned())
    );
}

#[test]
fn of_several_that_are_accepted_the_name_says_which() {
    let other = Chap::new(credentials("node2", "seven-eight-nine"), None).unwrap();
    let mut target = Target::new(false, vec![one_way(), other.clone()], Nonce([2; 33]));
    run(&mut ask(Some(other)), &mut target).unwrap();
    assert_eq!(target.user(), Some("node2"));
}

#[test]
fn a_target_that_does_not_prove_itself_is_refused() {
    let lax = one_way();
    assert_eq!(run(&mut ask(Some(mutual())), &mut accept(lax)).unwrap_err(), Refused::NotMutual);
    let other =
        Chap::new(credentials("node1", "one-two-three"), Some(credentials("kiln", "four-five-siX"))).unwrap();
    assert_eq!(run(&mut ask(Some(mutual())), &mut accept(other)).unwrap_err(), Refused::TargetUnproved);
    let renamed =
        Chap::new(credentials("node1", "one-two-three"), Some(credentials("kilm", "four-five-six"))).unwrap();
    assert_eq!(run(&mut ask(Some(mutual())), &mut accept(renamed)).unwrap_err(), Refused::TargetUnproved);
    let mut silent = ask(Some(mutual()));
    let mut target = accept(mutual());
    let offer = silent.handle(&target.handle(&silent.first()).unwrap().pairs).unwrap();
    silent.handle(&target.handle(&offer.pairs).unwrap().pairs).unwrap();
    assert_eq!(silent.leave(), Err(Refused::TargetUnproved));
    assert_eq!(silent.handle(&[]), Err(Refused::TargetUnproved));
}

#[test]
fn nobody_is_talked_down_to_no_authentication() {
    let mut initiator = ask(Some(one_way()));
    assert_eq!(initiator.handle(&[Pair::new("AuthMethod", "None")]), Err(Refused::Method("None".to_owned())));
    assert_eq!(ask(Some(one_way())).leave(), Err(Refused::TargetUnproved));
    assert_eq!(ask(None).leave(), Ok(()));
    assert!(!accept(one_way()).is_content());
    assert!(run(&mut ask(None), &mut accept(one_way())).is_err());
    assert!(Target::new(true, Vec::new(), Nonce([2; 33])).is_content());
}

// RFC 7143, 9.2.1: responders MUST check whether their challenge was reused, and close the connection.
#[test]
fn our_own_challenge_sent_back_is_refused() {
    let (mut initiator, mut target) = (ask(Some(mutual())), accept(mutual()));
    let offer = initiator.handle(&target.handle(&initiator.first()).unwrap().pairs).unwrap();
    let challenge = target.handle(&offer.pairs).unwrap();
    let answer = initiator.handle(&challenge.pairs).unwrap();
    let reflected = with(&answer.pairs, "CHAP_C", &challenge.pairs[2].value);
    assert_eq!(target.handle(&reflected), Err(Refused::Reflected));

    let mut initiator = ask(Some(mutual()));
    initiator.handle(&[Pair::new("AuthMethod", "CHAP")]).unwrap();
    let own = binary::encode(&[1; 16]);
    let reflected = [Pair::new("CHAP_A", 5), Pair::new("CHAP_I", 9), Pair::new("CHAP_C", own)];
    assert_eq!(initiator.handle(&reflected), Err(Refused::Reflected));
}

// RFC 7143, 9.2.1: a response that the receiver itself would have given MUST be treated as a failure.
#[test]
fn an_answer_that_is_our_own_is_refused() {
    let (mut initiator, mut target) = (ask(Some(mutual())), accept(mutual()));
    let offer = initiator.handle(&target.handle(&initiator.first()).unwrap().pairs).unwrap();
    initiator.handle(&target.handle(&offer.pairs).unwrap().pairs).unwrap();
    let own = Algorithm::Sha3.response(1, &Secret::new("one-two-three").unwrap(), &[1; 32]);
    let answer = [Pair::new("CHAP_N", "kiln"), Pair::new("CHAP_R", binary::encode(&own))];
    assert_eq!(initiator.handle(&answer), Err(Refused::Reflected));
}

// RFC 7143, 9.2.1: no secret serves both directions.
#[test]
fn a_secret_of_both_directions_is_unfit() {
    let same = Chap::new(credentials("a", "one-two-three"), Some(credentials("b", "one-two-three")));
    assert_eq!(same.unwrap_err(), Unfit::SameSecret);
}

// RFC 7143, 9.2.1: at least 96 bits.
#[test]
fn a_secret_has_12_to_255_octets() {
    assert_eq!(Secret::new("eleven-octs").unwrap_err(), Unfit::SecretLength(11));
    assert!(Unfit::SecretLength(11).to_string().contains("12 to 255 octets, this one 11"));
    assert!(Secret::new("twelve-octet").is_ok());
    assert!(Secret::new(vec![b'x'; 255]).is_ok());
    assert_eq!(Secret::new(vec![b'x'; 256]).unwrap_err(), Unfit::SecretLength(256));
}

#[test]
fn nothing_secret_is_printed() {
    let shown = format!("{:?} {:?} {:?}", mutual(), ask(Some(mutual())), accept(mutual()));
    assert!(shown.contains("***") && !shown.contains("one-two") && !shown.contains("four-five"));
}

#[test]
fn keys_that_are_missing_or_out_of_place_are_named() {
    let challenged = || {
        let mut target = accept(mutual());
        target.handle(&[Pair::new("AuthMethod", "CHAP")]).unwrap();
        target.handle(&[Pair::new("CHAP_A", "5")]).unwrap();
        target
    };
    let answer = [Pair::new("CHAP_N", "node1"), Pair::new("CHAP_R", "0x00")];
    assert_eq!(challenged().handle(&answer[..1]), Err(Refused::Missing("CHAP_R")));
    assert_eq!(challenged().handle(&answer[1..]), Err(Refused::Missing("CHAP_N")));
    assert_eq!(challenged().handle(&with(&answer, "CHAP_R", "zz")), Err(Refused::Malformed("CHAP_R")));
    assert_eq!(challenged().handle(&with(&answer, "CHAP_I", "1")), Err(Refused::Missing("CHAP_C")));
    assert_eq!(challenged().handle(&with(&answer, "CHAP_C", "0x01")), Err(Refused::Missing("CHAP_I")));
    assert_eq!(challenged().handle(&with(&answer, "CHAP_A", "5")), Err(Refused::Unexpected("CHAP_A")));
    assert_eq!(challenged().handle(&answer), Err(Refused::Wrong("node1".to_owned())));
    let mut early = accept(mutual());
    assert_eq!(early.handle(&answer), Err(Refused::Missing("AuthMethod")));
}

#[test]
fn a_request_without_our_keys_changes_nothing() {
    let mut target = accept(one_way());
    let empty = target.handle(&[Pair::new("InitiatorName", "iqn.2026-01.a:b")]).unwrap();
    assert_eq!(empty, Step { pairs: Vec::new(), done: false });
    run(&mut ask(Some(one_way())), &mut target).unwrap();
}

#[test]
fn any_pairs_at_any_step_are_answered_or_refused() {
    let mut dice = sansio::sim::Dice::new(4);
    let keys = ["AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"];
    let values = ["CHAP", "None", "5", "7,8", "0x01", "0b", "node1", "0x", "256", ""];
    for _ in 0..5_000 {
        let (mut initiator, mut target) = (ask(Some(mutual())), accept(mutual()));
        for _ in 0..5 {
            let pairs: Vec<Pair> = (0..dice.below(5))
                .map(|_| Pair::new(keys[dice.below(6) as usize], values[dice.below(10) as usize]))
                .collect();
            assert!(target.handle(&pairs).is_err() || !target.is_content(), "in without the secret");
            assert!(initiator.handle(&pairs).is_err() || !initiator.is_content(), "content with a liar");
        }
    }
}
