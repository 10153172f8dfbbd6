use super::*;
use crate::text::{Pair, parse, value};
use sansio::sim::Dice;

fn pairs(text: &str) -> Vec<Pair> {
    parse(text.replace(' ', "\0").as_bytes()).unwrap()
}

fn target() -> Negotiation {
    Negotiation::target(Offer::default())
}

fn answers(text: &str) -> Vec<Pair> {
    target().handle(&pairs(text), Stage::Login).unwrap()
}

/// Both ends' results of a login between two offers.
fn agree(initiator: Offer, target: Offer) -> Result<(Parameters, Parameters), Refused> {
    let (mut ours, mut theirs) = (Negotiation::initiator(initiator), Negotiation::target(target));
    let mut answers = theirs.handle(&ours.propose(), Stage::Login)?;
    answers.extend(theirs.declare());
    assert_eq!(ours.handle(&answers, Stage::Login)?, []);
    Ok((ours.parameters(), theirs.parameters()))
}

#[test]
fn every_key_has_a_name_that_finds_it() {
    for key in Key::ALL {
        assert_eq!(Key::of(key.name()), Some(*key));
        assert!(key.is_initiators() || key.is_targets(), "{key:?} comes from nobody");
    }
    assert_eq!(Key::of("X-other"), None);
    assert_eq!(Key::of("maxburstlength"), None);
}

#[test]
fn defaults_are_those_of_the_standard() {
    let defaults = Parameters::default();
    for (key, value) in [
        (Key::MaxBurstLength, defaults.max_burst),
        (Key::FirstBurstLength, defaults.first_burst),
        (Key::MaxOutstandingR2T, defaults.max_outstanding_r2t.into()),
        (Key::DefaultTime2Wait, defaults.time2wait.into()),
        (Key::DefaultTime2Retain, defaults.time2retain.into()),
    ] {
        assert!(matches!(key.kind(), Kind::Number { default, .. } if default == value), "{key:?}");
    }
    assert_eq!(target().parameters(), defaults);
    assert!(
        matches!(Key::InitialR2T.kind(), Kind::Switch { default, or: true } if default == defaults.initial_r2t)
    );
    assert!(
        matches!(Key::ImmediateData.kind(), Kind::Switch { default, or: false } if default == defaults.immediate_data)
    );
}

#[test]
fn numbers_are_the_lesser_or_the_greater_of_both() {
    let small = Offer { max_burst: 65_536, first_burst: 4096, max_outstanding_r2t: 2, ..Offer::default() };
    let large = Offer { max_burst: 1 << 20, time2wait: 5, time2retain: 60, ..Offer::default() };
    for (ours, theirs) in [(small.clone(), large.clone()), (large, small)] {
        let (one, other) = agree(ours, theirs).unwrap();
        assert_eq!((one.max_burst, one.first_burst, one.max_outstanding_r2t), (65_536, 4096, 2));
        assert_eq!((one.time2wait, one.time2retain), (5, 0));
        assert_eq!(one, other);
    }
}

#[test]
fn switches_are_or_and_and() {
    for ours in [false, true] {
        for theirs in [false, true] {
            let offer = |value| Offer { initial_r2t: value, immediate_data: value, ..Offer::default() };
            let (one, other) = agree(offer(ours), offer(theirs)).unwrap();
            assert_eq!((one.initial_r2t, one.immediate_data), (ours | theirs, ours & theirs));
            assert_eq!(one, other);
        }
    }
}

#[test]
fn digests_follow_the_initiators_order_among_what_the_target_has() {
    use Digest::{Always, IfAsked, Never, Preferred};
    for (ours, theirs, expected) in [
        (Never, Never, Some(false)),
        (IfAsked, IfAsked, Some(false)),
        (IfAsked, Preferred, Some(false)),
        (IfAsked, Always, Some(true)),
        (Preferred, IfAsked, Some(true)),
        (Preferred, Never, Some(false)),
        (Always, IfAsked, Some(true)),
        (Always, Never, None),
        (Never, Always, None),
    ] {
        let offer = |digest| Offer { header_digest: digest, data_digest: digest, ..Offer::default() };
        let agreed = agree(offer(ours), offer(theirs));
        assert_eq!(agreed.as_ref().ok().map(|(one, _)| one.data_digest), expected, "{ours:?} {theirs:?}");
        assert!(
            agreed.is_err()
                || agreed.is_ok_and(|(one, other)| one == other && one.header_digest == one.data_digest)
        );
    }
}

#[test]
fn each_end_says_what_it_receives() {
    let offer = |max_recv| Offer { max_recv, ..Offer::default() };
    let (one, other) = agree(offer(4096), offer(65_536)).unwrap();
    assert_eq!((one.max_recv, one.max_send), (4096, 65_536));
    assert_eq!((other.max_recv, other.max_send), (65_536, 4096));
    let mut silent = target();
    assert_eq!(silent.parameters().max_recv, 8192, "what was not said is the default");
    silent.declare();
    assert_eq!((silent.parameters().max_recv, silent.declare()), (256 << 10, None));
}

// RFC 7143, 13.14: FirstBurstLength MUST NOT exceed MaxBurstLength.
#[test]
fn the_first_burst_is_no_longer_than_a_burst() {
    let found = answers("MaxBurstLength=1024 FirstBurstLength=65536");
    assert_eq!(found, pairs("MaxBurstLength=1024 FirstBurstLength=1024"));
    let mut late = target();
    late.handle(&pairs("FirstBurstLength=65536 MaxBurstLength=1024"), Stage::Login).unwrap();
    assert_eq!((late.parameters().first_burst, late.parameters().max_burst), (1024, 1024));
}

#[test]
fn what_is_not_known_irrelevant_or_out_of_range_is_answered_so() {
    assert_eq!(answers("X-com.x=1 Nonsense=a"), pairs("X-com.x=NotUnderstood Nonsense=NotUnderstood"));
    assert_eq!(answers("X-com.x=NotUnderstood MaxBurstLength=Reject"), []);
    assert_eq!(
        answers("MaxConnections=0 MaxBurstLength=511"),
        pairs("MaxConnections=Reject MaxBurstLength=Reject")
    );
    assert_eq!(answers("FirstBurstLength=16777216 DefaultTime2Wait=3601").len(), 2);
    assert_eq!(
        answers("InitialR2T=yes MaxOutstandingR2T=1x"),
        pairs("InitialR2T=Reject MaxOutstandingR2T=Reject")
    );
    assert_eq!(answers("MaxBurstLength=0x10000"), pairs("MaxBurstLength=65536"));
    let discovery = answers("ImmediateData=Yes SessionType=Discovery MaxBurstLength=512 DefaultTime2Wait=0");
    assert_eq!(discovery, pairs("ImmediateData=Irrelevant MaxBurstLength=Irrelevant DefaultTime2Wait=0"));
    assert_eq!(
        answers("TargetPortalGroupTag=1"),
        pairs("TargetPortalGroupTag=Reject"),
        "only a target says that"
    );
}

// RFC 7143, 13.25: never NotUnderstood.
#[test]
fn obsolete_keys_are_known_and_refused() {
    let found = answers("IFMarker=Yes OFMarker=No IFMarkInt=1~2 OFMarkInt=2048~8192");
    assert_eq!(found, pairs("IFMarker=No OFMarker=No IFMarkInt=Reject OFMarkInt=Reject"));
}

// RFC 7143, 6.3: an attempt to renegotiate MUST be detected by both ends.
#[test]
fn what_was_agreed_on_is_not_agreed_on_again() {
    let mut negotiation = target();
    negotiation.handle(&pairs("MaxBurstLength=4096"), Stage::Login).unwrap();
    assert_eq!(
        negotiation.handle(&pairs("MaxBurstLength=8192"), Stage::Login),
        Err(Refused::Again("MaxBurstLength"))
    );
    assert_eq!(
        target().handle(&pairs("InitialR2T=No InitialR2T=No"), Stage::Login),
        Err(Refused::Again("InitialR2T"))
    );
    let mut ours = Negotiation::initiator(Offer::default());
    ours.propose();
    assert_eq!(ours.handle(&pairs("ImmediateData=Yes"), Stage::Login), Ok(vec![]));
    assert_eq!(ours.handle(&pairs("ImmediateData=Yes"), Stage::Login), Err(Refused::Again("ImmediateData")));
}

#[test]
fn in_the_full_feature_phase_the_segment_length_alone_may_change() {
    let mut negotiation = target();
    negotiation.handle(&pairs("MaxRecvDataSegmentLength=4096"), Stage::Login).unwrap();
    negotiation.handle(&pairs("MaxRecvDataSegmentLength=16384"), Stage::FullFeature).unwrap();
    assert_eq!(negotiation.parameters().max_send, 16_384);
    let found =
        negotiation.handle(&pairs("MaxBurstLength=4096 SendTargets=All AuthMethod=None"), Stage::FullFeature);
    assert_eq!(found, Ok(pairs("MaxBurstLength=Reject AuthMethod=Reject")));
    assert_eq!(negotiation.parameters().max_burst, 262_144);
}

#[test]
fn who_they_are_is_kept_and_names_are_names() {
    let mut negotiation = target();
    let text =
        "InitiatorName=iqn.2026-01.a:b InitiatorAlias=rack TargetName=iqn.2026-01.a:t SessionType=Normal";
    assert_eq!(negotiation.handle(&pairs(text), Stage::Login), Ok(vec![]));
    let declared = negotiation.declared();
    assert_eq!(declared.initiator_name.as_deref(), Some("iqn.2026-01.a:b"));
    assert_eq!(declared.target_name.as_deref(), Some("iqn.2026-01.a:t"));
    assert_eq!(
        (declared.initiator_alias.as_deref(), declared.session),
        (Some("rack"), Some(SessionType::Normal))
    );
    let bad = target().handle(&pairs("InitiatorName=nobody"), Stage::Login);
    assert_eq!(bad, Err(Refused::BadValue("InitiatorName", "nobody".to_owned())));
    assert!(matches!(target().handle(&pairs("SessionType=Other"), Stage::Login), Err(Refused::BadValue(..))));
    assert!(matches!(
        target().handle(&pairs("MaxRecvDataSegmentLength=1"), Stage::Login),
        Err(Refused::BadValue(..))
    ));
    for (name, is) in [
        ("iqn.2010-04.org.ipxe:5254-00", true),
        ("eui.02004567A425678D", true),
        ("naa.52004567BA64678D", true),
        ("eui.0200", false),
        ("iqn.", false),
        ("iqn.a b", false),
        ("iqn.a/b", false),
        ("IQN.2026-01.a", false),
    ] {
        assert_eq!(Key::is_name(name), is, "{name}");
    }
    assert!(!Key::is_name(&format!("iqn.{}", "a".repeat(220))));
}

#[test]
fn an_initiator_takes_no_answer_that_it_did_not_offer() {
    let ours = || {
        let mut ours = Negotiation::initiator(Offer { data_digest: Digest::Never, ..Offer::default() });
        ours.propose();
        ours
    };
    let found = ours().handle(&pairs("DataDigest=CRC32C"), Stage::Login);
    assert_eq!(found, Err(Refused::NotProposed("DataDigest", "CRC32C".to_owned())));
    assert!(matches!(ours().handle(&pairs("MaxBurstLength=1"), Stage::Login), Err(Refused::BadValue(..))));
    let mut rejected = ours();
    rejected.handle(&pairs("MaxBurstLength=Reject MaxOutstandingR2T=NotUnderstood"), Stage::Login).unwrap();
    assert_eq!(rejected.parameters().max_burst, 262_144);
    let mut own = ours();
    own.handle(&pairs("FirstBurstLength=16777215 InitialR2T=Yes"), Stage::Login).unwrap();
    assert_eq!((own.parameters().first_burst, own.parameters().initial_r2t), (256 << 10, true));
    let mut insists = Negotiation::initiator(Offer { data_digest: Digest::Always, ..Offer::default() });
    insists.propose();
    assert_eq!(
        insists.handle(&pairs("DataDigest=Reject"), Stage::Login),
        Err(Refused::NoDigest("DataDigest"))
    );
}

#[test]
fn a_target_may_propose_too() {
    let mut ours = Negotiation::initiator(Offer::default());
    let found =
        ours.handle(&pairs("MaxBurstLength=65536 TargetPortalGroupTag=7 TargetAlias=disk"), Stage::Login);
    assert_eq!(found, Ok(pairs("MaxBurstLength=65536")));
    assert_eq!((ours.parameters().max_burst, ours.declared().portal_group), (65_536, Some(7)));
    assert_eq!(value(&ours.propose(), "MaxBurstLength"), None, "what is settled is not proposed");
}

#[test]
fn a_discovery_session_proposes_only_what_it_means() {
    let proposed = Negotiation::initiator(Offer::default()).discovery().propose();
    assert!(value(&proposed, "MaxBurstLength").is_none() && value(&proposed, "HeaderDigest").is_some());
}

#[test]
fn any_pairs_at_either_end_are_answered_or_refused_and_what_is_agreed_is_in_range() {
    let mut dice = Dice::new(9);
    let values = [
        "0",
        "1",
        "512",
        "65536",
        "16777215",
        "4294967296",
        "0xffffffff",
        "Yes",
        "No",
        "None",
        "CRC32C,None",
        "Reject",
        "NotUnderstood",
        "a~b",
        "",
        "iqn.a",
    ];
    for _ in 0..20_000 {
        let mut negotiation =
            if dice.below(2) == 0 { target() } else { Negotiation::initiator(Offer::default()) };
        if dice.below(2) == 0 {
            negotiation.propose();
        }
        let pairs: Vec<Pair> = (0..dice.below(12))
            .map(|_| {
                Pair::new(
                    Key::ALL[dice.below(Key::ALL.len() as u64) as usize].name(),
                    values[dice.below(16) as usize],
                )
            })
            .collect();
        let stage = if dice.below(4) == 0 { Stage::FullFeature } else { Stage::Login };
        if let Ok(answers) = negotiation.handle(&pairs, stage) {
            assert!(answers.len() <= pairs.len());
        }
        let agreed = negotiation.parameters();
        assert!(
            agreed.max_send >= 512 && agreed.first_burst >= 512 && agreed.first_burst <= agreed.max_burst
        );
        assert!(agreed.max_outstanding_r2t >= 1);
    }
}

#[test]
fn a_digest_that_is_insisted_on_and_never_spoken_of_ends_the_login() {
    let insisting = Negotiation::target(Offer { header_digest: Digest::Always, ..Offer::default() });
    assert_eq!(insisting.conclude(), Err(Refused::NoDigest("HeaderDigest")));
    assert_eq!(target().conclude(), Ok(Parameters::default()));
}

#[test]
fn what_was_never_answered_follows_from_our_own_value() {
    let mut ours =
        Negotiation::initiator(Offer { immediate_data: false, max_burst: 4096, ..Offer::default() });
    ours.propose();
    let parameters = ours.parameters();
    assert_eq!(
        (parameters.immediate_data, parameters.max_burst, parameters.first_burst),
        (false, 4096, 4096)
    );
}
