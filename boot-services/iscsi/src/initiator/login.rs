//! A login, from the first request to the full feature phase (RFC 7143, 6.3).

use super::{Settings, Why};
use crate::{
    chap::{self, Nonce},
    keys::{self, Negotiation, Parameters},
    pdu::{FromInitiator, Login as Request, LoginResponse, LoginStatus, Serial, Stage, Tag, Tsih},
    text::{self, Gather, Pair},
};

/// The most requests of one login: CHAP takes four, long answers a few more.
const MOST_ROUNDS: u32 = 32;

/// What a response led to.
pub(super) enum Step {
    /// This is sent next, with its text.
    Send(FromInitiator, Vec<u8>),
    /// It is done.
    Done(Parameters),
}

/// A login on its way.
#[derive(Debug)]
pub(super) struct Login {
    security: chap::Initiator,
    negotiation: Negotiation,
    request: Request,
    gather: Gather,
    rounds: u32,
    proposed: bool,
}

impl Login {
    /// The first request and its text.
    pub(super) fn new(settings: &Settings, nonce: Nonce, cmd_sn: Serial) -> (Login, FromInitiator, Vec<u8>) {
        let chap = settings.chap.clone();
        let transit = if chap.is_none() { Some(Stage::Operational) } else { None };
        let login = Login {
            security: chap::Initiator::new(chap, &settings.algorithms, nonce),
            negotiation: Negotiation::initiator(settings.offer.clone()),
            request: Request {
                transit,
                more: false,
                stage: Stage::Security,
                version_max: 0,
                version_min: 0,
                isid: settings.isid,
                tsih: Tsih(0),
                itt: Tag(0),
                cid: 0,
                cmd_sn,
                exp_stat_sn: Serial(0),
            },
            gather: Gather::default(),
            rounds: 0,
            proposed: false,
        };
        let mut pairs = vec![
            Pair::new("InitiatorName", &settings.initiator),
            Pair::new("TargetName", &settings.target),
            Pair::new("SessionType", "Normal"),
        ];
        pairs.extend(login.security.first());
        let request = FromInitiator::Login(login.request);
        (login, request, text::emit(&pairs))
    }

    pub(super) fn handle(&mut self, response: &LoginResponse, data: &[u8]) -> Result<Step, Why> {
        if response.status != LoginStatus::Success {
            return Err(Why::Refused(response.status));
        }
        self.rounds += 1;
        if self.rounds > MOST_ROUNDS
            || response.itt != self.request.itt
            || response.stage != self.request.stage
        {
            return Err(Why::Protocol("its login responses do not follow our requests"));
        }
        self.request.exp_stat_sn = response.windows.stat_sn.plus(1);
        let Some(pairs) = self.gather.push(data, response.more).map_err(|bad| Why::Text(bad.to_string()))?
        else {
            // RFC 7143, 6.2: while the text goes on, the other end answers with empty requests and no T bit.
            return Ok(self.send(&[], None));
        };
        let operational = |refused: keys::Refused| Why::Text(refused.to_string());
        let mut answers = self.negotiation.handle(&pairs, keys::Stage::Login).map_err(operational)?;
        let mut content = true;
        if self.request.stage == Stage::Security {
            let step = self.security.handle(&pairs).map_err(Why::Unproved)?;
            answers.extend(step.pairs);
            content = step.done;
        }
        match response.transit {
            Some(next) if self.request.transit != Some(next) => {
                Err(Why::Protocol("it goes to a stage that we did not ask for"))
            }
            Some(Stage::FullFeature) => {
                if response.tsih == Tsih(0) || !answers.is_empty() {
                    return Err(Why::Protocol("its last login response is not a last one"));
                }
                self.leave_security()?;
                Ok(Step::Done(self.negotiation.conclude().map_err(operational)?))
            }
            Some(next) => {
                self.leave_security()?;
                self.request.stage = next;
                self.propose(&mut answers);
                Ok(self.send(&answers, Some(Stage::FullFeature)))
            }
            None if self.request.stage == Stage::Security => {
                Ok(self.send(&answers, content.then_some(Stage::Operational)))
            }
            None => Ok(self.send(&answers, Some(Stage::FullFeature))),
        }
    }

    fn leave_security(&self) -> Result<(), Why> {
        if self.request.stage == Stage::Security {
            self.security.leave().map_err(Why::Unproved)
        } else {
            Ok(())
        }
    }

    fn propose(&mut self, pairs: &mut Vec<Pair>) {
        if !self.proposed {
            self.proposed = true;
            pairs.extend(self.negotiation.propose());
        }
    }

    fn send(&mut self, pairs: &[Pair], transit: Option<Stage>) -> Step {
        self.request.transit = transit;
        Step::Send(FromInitiator::Login(self.request), text::emit(pairs))
    }

    /// The next status to come.
    pub(super) fn exp_stat_sn(&self) -> Serial {
        self.request.exp_stat_sn
    }
}
