/// Which session sequence numbers were seen, so that none counts twice (IPMI v2.0, section 6.12.13).
#[derive(Clone, Debug)]
pub(crate) struct Window {
    highest: u32,
    /// Bit i: `highest - i` was seen.
    seen: u32,
    /// How far ahead a number may lie.
    ahead: u32,
}

impl Window {
    /// Of a session in which no number was seen; they begin at 1.
    pub(crate) fn new(ahead: u32) -> Window {
        Window { highest: 0, seen: u32::MAX, ahead }
    }

    /// Takes a number, once. Only for a message whose integrity was checked.
    pub(crate) fn take(&mut self, number: u32) -> bool {
        // "The session sequence number 0000_0000h is reserved" for messages outside of a session.
        if number == 0 {
            return false;
        }
        let ahead = number.wrapping_sub(self.highest);
        if ahead != 0 && ahead <= self.ahead {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
            return true;
        }
        let behind = self.highest.wrapping_sub(number);
        let Some(bit) = 1_u32.checked_shl(behind) else {
            return false;
        };
        let fresh = self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests;
