//! The initiator's end.

use super::{Algorithm, Chap, Nonce, Refused, Step, binary, required};
use crate::text::{Pair, value};

/// The security stage of one login, at the initiator.
#[derive(Clone, Debug)]
pub struct Initiator {
    chap: Option<Chap>,
    algorithms: Vec<Algorithm>,
    nonce: Nonce,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offered,
    Algorithms,
    Answered(Algorithm),
    Done,
    Failed,
}

impl Initiator {
    /// Proves itself by `chap` and by nothing less; without it, only a target that asks for no proof will do.
    ///
    /// `algorithms` are offered in their order; [`Algorithm::ALL`] suits all but very old targets.
    pub fn new(chap: Option<Chap>, algorithms: &[Algorithm], nonce: Nonce) -> Initiator {
        Initiator { chap, algorithms: algorithms.to_vec(), nonce, state: State::Offered }
    }

    /// What the first login request has.
    pub fn first(&self) -> Vec<Pair> {
        vec![Pair::new("AuthMethod", if self.chap.is_some() { "CHAP" } else { "None" })]
    }

    /// Whether the target accepted us and, if it was to, proved itself.
    pub fn is_content(&self) -> bool {
        self.state == State::Done
    }

    /// The pairs of one login response of the security stage; others' keys are passed over.
    ///
    /// # Errors
    /// The target cannot be trusted or understood: drop the connection.
    pub fn handle(&mut self, pairs: &[Pair]) -> Result<Step, Refused> {
        let result = self.advance(pairs);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// The target wishes to leave the stage.
    ///
    /// # Errors
    /// It was to prove itself first.
    pub fn leave(&self) -> Result<(), Refused> {
        match self.state {
            State::Done => Ok(()),
            State::Offered if self.chap.is_none() => Ok(()),
            _ => Err(Refused::TargetUnproved),
        }
    }

    fn advance(&mut self, pairs: &[Pair]) -> Result<Step, Refused> {
        match (self.state, self.chap.clone()) {
            // A target that goes on without a word has accepted that nobody proves anything.
            (State::Offered, None) if value(pairs, "AuthMethod").is_none() => {
                Ok(Step { pairs: Vec::new(), done: true })
            }
            (State::Offered, chap) => {
                let wanted = if chap.is_some() { "CHAP" } else { "None" };
                let method = required(pairs, "AuthMethod")?;
                if method != wanted {
                    return Err(Refused::Method(method.chars().take(60).collect()));
                }
                if chap.is_none() {
                    self.state = State::Done;
                    return Ok(Step { pairs: Vec::new(), done: true });
                }
                self.state = State::Algorithms;
                let numbers: Vec<String> =
                    self.algorithms.iter().map(|one| one.number().to_string()).collect();
                Ok(Step { pairs: vec![Pair::new("CHAP_A", numbers.join(","))], done: false })
            }
            (State::Algorithms, Some(chap)) => self.answer(&chap, pairs),
            (State::Answered(algorithm), Some(chap)) => self.judge(algorithm, &chap, pairs),
            _ => Ok(Step { pairs: Vec::new(), done: self.is_content() }),
        }
    }

    fn answer(&mut self, chap: &Chap, pairs: &[Pair]) -> Result<Step, Refused> {
        let chosen = required(pairs, "CHAP_A")?;
        let algorithm = Algorithm::of(chosen)
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or_else(|| Refused::Algorithm(chosen.chars().take(60).collect()))?;
        let identifier = binary::octet(required(pairs, "CHAP_I")?).ok_or(Refused::Malformed("CHAP_I"))?;
        let challenge = binary::decode(required(pairs, "CHAP_C")?).ok_or(Refused::Malformed("CHAP_C"))?;
        let response = algorithm.response(identifier, &chap.initiator.secret, &challenge);
        let mut answer =
            vec![Pair::new("CHAP_N", &chap.initiator.user), Pair::new("CHAP_R", binary::encode(&response))];
        if chap.is_mutual() {
            let own = self.nonce.challenge(algorithm);
            // RFC 7143, 9.2.1: originators MUST NOT reuse the responder's challenge.
            if challenge == own {
                return Err(Refused::Reflected);
            }
            answer.push(Pair::new("CHAP_I", self.nonce.identifier()));
            answer.push(Pair::new("CHAP_C", binary::encode(own)));
        }
        self.state = if chap.is_mutual() { State::Answered(algorithm) } else { State::Done };
        Ok(Step { pairs: answer, done: true })
    }

    fn judge(&mut self, algorithm: Algorithm, chap: &Chap, pairs: &[Pair]) -> Result<Step, Refused> {
        let Some(target) = &chap.target else { return Ok(Step { pairs: Vec::new(), done: true }) };
        let (Some(user), Some(response)) = (value(pairs, "CHAP_N"), value(pairs, "CHAP_R")) else {
            return Err(Refused::TargetUnproved);
        };
        let response = binary::decode(response).ok_or(Refused::Malformed("CHAP_R"))?;
        // RFC 7143, 9.2.1: a response that we ourselves would have given to this challenge is a failure.
        if algorithm.holds(&self.nonce, &chap.initiator.secret, &response) {
            return Err(Refused::Reflected);
        }
        if !algorithm.holds(&self.nonce, &target.secret, &response) || user != target.user {
            return Err(Refused::TargetUnproved);
        }
        self.state = State::Done;
        Ok(Step { pairs: Vec::new(), done: true })
    }
}
