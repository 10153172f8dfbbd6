//! The login phase (RFC 7143, 6.3).

use super::{
    Auth, Connection, Refusal, Why,
    connection::{MOST_TASKS, State},
    targets::Claim,
};
use crate::{
    chap::{self, Nonce},
    keys,
    pdu::{
        self, FromInitiator, FromTarget, Header, Isid, LoginResponse, LoginStatus, Serial, Stage, Tag, Tsih,
        Windows,
    },
    text::{self, Gather, Pair},
};
use sansio::Time;

/// Keys that say who is there and what for, and may come in any stage.
const DECLARED: [&str; 5] = ["InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "TargetAlias"];
/// The most of a response before the other end has said what it takes.
const MOST_ANSWER: usize = 8192;

pub(super) struct Login {
    nonce: Nonce,
    /// It was too late, or there was no room, before it began.
    pub(super) refusal: Option<Refusal>,
    stage: Stage,
    gather: Gather,
    proof: Option<Proof>,
    /// The last response, held until another session has ended.
    last: Option<(LoginResponse, Vec<Pair>)>,
}

/// Who has to prove what.
struct Proof {
    chap: chap::Target,
    auth: Auth,
}

impl Login {
    pub(super) fn new(nonce: Nonce, refusal: Option<Refusal>) -> Login {
        Login { nonce, refusal, stage: Stage::Security, gather: Gather::default(), proof: None, last: None }
    }
}

/// A refusal, and as what it is told.
type Failed = (LoginStatus, Refusal);

fn fail<T>(status: LoginStatus, refusal: Refusal) -> Result<T, Failed> {
    Err((status, refusal))
}

impl<V> Connection<V> {
    /// A PDU before the login is done.
    pub(super) fn login(&mut self, header: &Header, data: &[u8], now: Time) {
        let State::Login(login) = &mut self.state else { return };
        if login.last.is_some() {
            // It was told nothing yet and goes on: it cannot be meant seriously.
            return self.close(Why::Refused(LoginStatus::InvalidDuringLogin, Refusal::Stages));
        }
        let request = match FromInitiator::parse(header) {
            Ok(FromInitiator::Login(request)) => request,
            _ => {
                let refusal = Refusal::Opcode(header[0] & 0x3f);
                return self.refuse(None, (LoginStatus::InvalidDuringLogin, refusal));
            }
        };
        if let Err(failed) = self.login_step(&request, data, now) {
            self.refuse(Some(&request), failed);
        }
    }

    fn login_step(&mut self, request: &pdu::Login, data: &[u8], now: Time) -> Result<(), Failed> {
        let State::Login(login) = &mut self.state else { return Ok(()) };
        if let Some(refusal) = login.refusal.take() {
            let status = match refusal {
                Refusal::Crowded => LoginStatus::OutOfResources,
                _ => LoginStatus::ServiceUnavailable,
            };
            return fail(status, refusal);
        }
        if login.proof.is_none() {
            (self.cid, self.isid) = (request.cid, request.isid);
            self.exp_cmd_sn = request.cmd_sn;
            self.max_cmd_sn = request.cmd_sn.plus(MOST_TASKS - 1);
        }
        if request.version_min > 0 {
            return fail(LoginStatus::UnsupportedVersion, Refusal::Version(request.version_min));
        }
        // RFC 7143, 11.12.2: text that goes on and a change of stage exclude each other.
        if request.more && request.transit.is_some()
            || request.transit.is_some_and(|next| next <= request.stage)
        {
            return fail(LoginStatus::InitiatorError, Refusal::Stages);
        }
        let pairs = match login.gather.push(data, request.more) {
            Ok(Some(pairs)) => pairs,
            Ok(None) => {
                self.respond_login(request, None, Vec::new());
                return Ok(());
            }
            Err(malformed) => return fail(LoginStatus::InitiatorError, Refusal::Text(malformed)),
        };
        if login.proof.is_none() {
            self.introduce(request, &pairs)?;
        }
        let State::Login(login) = &mut self.state else { return Ok(()) };
        let Some(proof) = &mut login.proof else { return fail(LoginStatus::InitiatorError, Refusal::Stages) };
        // RFC 7143, 6.3: stages go forwards only, and Security may be left out where nothing is to be proved.
        if request.stage < login.stage || request.stage == Stage::FullFeature {
            return fail(LoginStatus::InitiatorError, Refusal::Stages);
        }
        let mut answers = Vec::new();
        if request.stage == Stage::Security {
            let step = proof.chap.handle(&pairs);
            let step =
                step.or_else(|refused| fail(LoginStatus::AuthenticationFailure, Refusal::Unproved(refused)))?;
            answers.extend(step.pairs);
        } else if !proof.chap.is_content() {
            return fail(LoginStatus::AuthenticationFailure, Refusal::Skipped);
        }
        let content = proof.chap.is_content();
        self.user = proof.chap.user().map(str::to_owned);
        let is_declared = |pair: &&Pair| DECLARED.contains(&pair.key.as_str());
        let keys: Vec<Pair> = if request.stage == Stage::Operational {
            pairs
        } else {
            // Operational keys of the security stage are taken too: initiators that skip the other stage send them.
            pairs
                .iter()
                .filter(|pair| is_declared(pair) || request.transit == Some(Stage::FullFeature))
                .cloned()
                .collect()
        };
        let negotiated = self.negotiation.handle(&keys, keys::Stage::Login);
        let negotiated =
            negotiated.or_else(|refused| fail(LoginStatus::InitiatorError, Refusal::Keys(refused)))?;
        answers.extend(negotiated);
        if request.stage == Stage::Operational {
            answers.extend(self.negotiation.declare());
        }
        let State::Login(login) = &mut self.state else { return Ok(()) };
        login.stage = request.stage;
        let next = request.transit.filter(|_| content);
        if next == Some(Stage::FullFeature) {
            let response = self.login_response(request, next);
            return self.conclude(response, answers, now);
        }
        if let Some(next) = next {
            login.stage = next;
        }
        self.respond_login(request, next, answers);
        Ok(())
    }

    /// The first whole request of a login: who is it, and for what?
    fn introduce(&mut self, request: &pdu::Login, pairs: &[Pair]) -> Result<(), Failed> {
        let initiator = text::value(pairs, "InitiatorName");
        let initiator =
            initiator.ok_or((LoginStatus::MissingParameter, Refusal::Missing("InitiatorName")))?;
        self.initiator = Some(initiator.chars().take(223).collect());
        let discovery = text::value(pairs, "SessionType") == Some("Discovery");
        let target = text::value(pairs, "TargetName");
        if request.tsih != Tsih(0) {
            let known = self.targets.has_session(initiator, request.isid, request.tsih);
            // RFC 7143, 11.13.5: one connection is all that a session has here.
            let status =
                if known { LoginStatus::TooManyConnections } else { LoginStatus::SessionDoesNotExist };
            return fail(status, Refusal::Continuation);
        }
        let (open, accepted, auth) = if discovery {
            let (open, proofs) = self.targets.proofs(initiator, self.link);
            (open, proofs, Auth::None)
        } else {
            let name = target.ok_or((LoginStatus::MissingParameter, Refusal::Missing("TargetName")))?;
            self.target = Some(name.chars().take(223).collect());
            let admitted = self.targets.admit(name, initiator, self.link);
            // Who may not see a target is not told that there is one.
            let auth = admitted.map_err(|refusal| (LoginStatus::NotFound, refusal))?;
            match &auth {
                Auth::None => (true, Vec::new(), auth),
                Auth::Chap(chap) => (false, vec![chap.clone()], auth),
            }
        };
        if let State::Login(login) = &mut self.state {
            let chap = chap::Target::new(open, accepted, login.nonce.clone());
            login.proof = Some(Proof { chap, auth });
            login.stage = request.stage;
        }
        Ok(())
    }

    fn login_response(&self, request: &pdu::Login, transit: Option<Stage>) -> LoginResponse {
        LoginResponse {
            transit,
            more: false,
            stage: request.stage,
            version_max: 0,
            version_active: 0,
            isid: request.isid,
            tsih: request.tsih,
            itt: request.itt,
            windows: Windows::default(),
            status: LoginStatus::Success,
        }
    }

    fn respond_login(&mut self, request: &pdu::Login, transit: Option<Stage>, answers: Vec<Pair>) {
        let response = self.login_response(request, transit);
        self.send_login(response, answers);
    }

    fn send_login(&mut self, response: LoginResponse, mut answers: Vec<Pair>) {
        // RFC 7143, 13.9: "TargetPortalGroupTag ... MUST be returned ... as part of the first Login Response" to a
        // request that names the target.
        if self.target.is_some() && !self.told_group {
            self.told_group = true;
            answers.push(Pair::new("TargetPortalGroupTag", super::PORTAL_GROUP));
        }
        let text = text::emit(&answers);
        if text.len() > MOST_ANSWER {
            let refusal = Refusal::Text(text::Malformed::TooMany);
            return self.close(Why::Refused(LoginStatus::InitiatorError, refusal));
        }
        self.say_with(FromTarget::Login(response), text);
    }

    /// All is agreed on: the session begins, or waits for the one whose place it takes.
    fn conclude(&mut self, response: LoginResponse, answers: Vec<Pair>, now: Time) -> Result<(), Failed> {
        let agreed = self.negotiation.conclude();
        agreed.or_else(|refused| fail(LoginStatus::InitiatorError, Refusal::Keys(refused)))?;
        if let State::Login(login) = &mut self.state {
            login.last = Some((response, answers));
        }
        self.try_claim(now)
    }

    fn try_claim(&mut self, _now: Time) -> Result<(), Failed> {
        let State::Login(login) = &mut self.state else { return Ok(()) };
        let (Some(proof), Some(_)) = (&login.proof, &login.last) else { return Ok(()) };
        let target = self.target.as_deref().map(|name| (name, &proof.auth));
        let initiator = self.initiator.clone().unwrap_or_default();
        let claim = match self.targets.claim(self.id, &initiator, self.isid, target) {
            Ok(claim) => claim,
            Err(Refusal::ShuttingDown) => {
                return fail(LoginStatus::ServiceUnavailable, Refusal::ShuttingDown);
            }
            Err(refusal) => return fail(LoginStatus::TargetRemoved, refusal),
        };
        let Claim::Granted(tsih, luns) = claim else { return Ok(()) };
        let Some((mut response, answers)) = login.last.take() else { return Ok(()) };
        response.tsih = tsih;
        self.send_login(response, answers);
        self.parameters = self.negotiation.parameters();
        self.begin_full_feature(&luns);
        Ok(())
    }

    /// Another session may have ended.
    pub(super) fn claim_again(&mut self, now: Time) {
        let State::Login(login) = &self.state else { return };
        let Some((response, _)) = &login.last else { return };
        let response = *response;
        if let Err((status, refusal)) = self.try_claim(now) {
            self.say(FromTarget::Login(LoginResponse { transit: None, status, ..response }));
            self.close(Why::Refused(status, refusal));
        }
    }

    /// Tells why, and ends.
    fn refuse(&mut self, request: Option<&pdu::Login>, (status, refusal): Failed) {
        let (isid, itt, stage) = match request {
            Some(request) => (request.isid, request.itt, request.stage),
            None => (Isid::default(), Tag(0), Stage::Security),
        };
        self.say(FromTarget::Login(LoginResponse {
            transit: None,
            more: false,
            stage,
            version_max: 0,
            version_active: 0,
            isid,
            tsih: Tsih(0),
            itt,
            windows: Windows { stat_sn: Serial(0), ..Windows::default() },
            status,
        }));
        self.close(Why::Refused(status, refusal));
    }
}
