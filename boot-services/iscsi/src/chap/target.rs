//! The target's end.

use super::{Algorithm, Chap, Nonce, Refused, Step, binary, forbid, required};
use crate::text::{Pair, value};

/// The security stage of one login, at the target.
///
/// ```
/// use iscsi::{chap, text::Pair};
/// let nobody = chap::Nonce([7; 33]);
/// let mut stage = chap::Target::new(true, Vec::new(), nobody);
/// let step = stage.handle(&[Pair::new("AuthMethod", "CHAP,None")]).unwrap();
/// assert_eq!(step.pairs, [Pair::new("AuthMethod", "None")]);
/// assert!(step.done);
/// ```
#[derive(Clone, Debug)]
pub struct Target {
    open: bool,
    accepted: Vec<Chap>,
    nonce: Nonce,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Method,
    Algorithm,
    Challenged(Algorithm),
    /// Content, with the user that proved himself.
    Done(Option<String>),
    Failed,
}

impl Target {
    /// Accepts whoever proves himself by one of `accepted`, and anybody at all if `open`.
    ///
    /// Several are accepted where the target's name is not known yet, in a discovery session; their users differ.
    pub fn new(open: bool, accepted: Vec<Chap>, nonce: Nonce) -> Target {
        Target { open, accepted, nonce, state: State::Method }
    }

    /// Whether this stage may be left: an initiator that never enters it is let in only if this holds.
    pub fn is_content(&self) -> bool {
        match self.state {
            State::Done(_) => true,
            State::Method => self.open,
            _ => false,
        }
    }

    /// Who proved himself, if anybody.
    pub fn user(&self) -> Option<&str> {
        match &self.state {
            State::Done(user) => user.as_deref(),
            _ => None,
        }
    }

    /// The pairs of one login request of the security stage; others' keys are passed over.
    ///
    /// A request without any key of ours (an initiator may send one to be answered first) is answered with none.
    ///
    /// # Errors
    /// The login fails: status 0x0201, "authentication failure". Every later request is refused, too.
    pub fn handle(&mut self, pairs: &[Pair]) -> Result<Step, Refused> {
        let result = self.advance(pairs);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn advance(&mut self, pairs: &[Pair]) -> Result<Step, Refused> {
        let ours = |pair: &&Pair| pair.key == "AuthMethod" || pair.key.starts_with("CHAP_");
        if !pairs.iter().any(|pair| ours(&pair)) {
            return Ok(Step { pairs: Vec::new(), done: self.is_content() });
        }
        match self.state.clone() {
            State::Method => self.choose_method(pairs),
            State::Algorithm => {
                forbid(pairs, &["AuthMethod", "CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"])?;
                self.challenge(required(pairs, "CHAP_A")?)
            }
            State::Challenged(algorithm) => self.judge(algorithm, pairs),
            State::Done(_) => Err(Refused::Unexpected("AuthMethod")),
            State::Failed => Err(Refused::Unexpected("CHAP_A")),
        }
    }

    /// The first of the initiator's list that is accepted (RFC 7143, 6.2.1).
    fn choose_method(&mut self, pairs: &[Pair]) -> Result<Step, Refused> {
        let offer = required(pairs, "AuthMethod")?;
        let method = offer.split(',').map(str::trim).find(|method| match *method {
            "CHAP" => !self.accepted.is_empty(),
            "None" => self.open,
            _ => false,
        });
        match method {
            Some("None") => {
                self.state = State::Done(None);
                Ok(Step { pairs: vec![Pair::new("AuthMethod", "None")], done: true })
            }
            Some(_) => {
                self.state = State::Algorithm;
                let mut step = Step { pairs: vec![Pair::new("AuthMethod", "CHAP")], done: false };
                // Some send their algorithms at once.
                if let Some(algorithms) = value(pairs, "CHAP_A") {
                    step.pairs.extend(self.challenge(algorithms)?.pairs);
                }
                Ok(step)
            }
            None => Err(Refused::Method(offer.chars().take(60).collect())),
        }
    }

    /// RFC 7143, 12.1.3: the target chooses one of the list, or fails the login. The best of those that both
    /// have is taken: a hash is no matter of the initiator's taste.
    fn challenge(&mut self, offer: &str) -> Result<Step, Refused> {
        let offered: Vec<Algorithm> = offer.split(',').take(16).filter_map(Algorithm::of).collect();
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|algorithm| offered.contains(algorithm)) else {
            return Err(Refused::Algorithm(offer.chars().take(60).collect()));
        };
        self.state = State::Challenged(algorithm);
        let pairs = vec![
            Pair::new("CHAP_A", algorithm.number()),
            Pair::new("CHAP_I", self.nonce.identifier()),
            Pair::new("CHAP_C", binary::encode(self.nonce.challenge(algorithm))),
        ];
        Ok(Step { pairs, done: false })
    }

    fn judge(&mut self, algorithm: Algorithm, pairs: &[Pair]) -> Result<Step, Refused> {
        forbid(pairs, &["AuthMethod", "CHAP_A"])?;
        let user = required(pairs, "CHAP_N")?;
        let response = binary::decode(required(pairs, "CHAP_R")?).ok_or(Refused::Malformed("CHAP_R"))?;
        let asked = match (value(pairs, "CHAP_I"), value(pairs, "CHAP_C")) {
            (Some(identifier), Some(challenge)) => {
                let identifier = binary::octet(identifier).ok_or(Refused::Malformed("CHAP_I"))?;
                Some((identifier, binary::decode(challenge).ok_or(Refused::Malformed("CHAP_C"))?))
            }
            (None, None) => None,
            (None, Some(_)) => return Err(Refused::Missing("CHAP_I")),
            (Some(_), None) => return Err(Refused::Missing("CHAP_C")),
        };
        let known = self.accepted.iter().find(|chap| chap.initiator.user == user);
        let proved = known.filter(|chap| algorithm.holds(&self.nonce, &chap.initiator.secret, &response));
        let Some(chap) = proved.cloned() else {
            return Err(Refused::Wrong(user.chars().take(60).collect()));
        };
        let answer = match asked {
            None => Vec::new(),
            Some((identifier, challenge)) => self.answer(algorithm, &chap, identifier, &challenge)?,
        };
        self.state = State::Done(Some(chap.initiator.user));
        Ok(Step { pairs: answer, done: true })
    }

    fn answer(
        &self,
        algorithm: Algorithm,
        chap: &Chap,
        identifier: u8,
        challenge: &[u8],
    ) -> Result<Vec<Pair>, Refused> {
        // RFC 7143, 9.2.1: originators MUST NOT reuse the responder's challenge for the other direction, and
        // responders MUST check that and close the connection.
        if challenge == self.nonce.challenge(algorithm) {
            return Err(Refused::Reflected);
        }
        let Some(own) = &chap.target else { return Err(Refused::NotMutual) };
        let response = algorithm.response(identifier, &own.secret, challenge);
        Ok(vec![Pair::new("CHAP_N", &own.user), Pair::new("CHAP_R", binary::encode(&response))])
    }
}
