//! What a node says on its serial port, made readable.

use std::mem;

#[cfg(test)]
mod tests;

/// The text without terminal control: escape sequences, NULs and carriage returns are dropped, and a
/// sequence that moves the cursor to another place begins a new line. Bytes that are no UTF-8 show as `U+FFFD`.
pub fn readable(raw: &[u8]) -> String {
    let mut clean = Vec::with_capacity(raw.len());
    let mut state = State::Text;
    for &byte in raw {
        state = match (mem::replace(&mut state, State::Text), byte) {
            (_, 0x1b) => State::Escape,
            (State::Text, 0 | b'\r' | 0x07) => State::Text,
            (State::Text, 0x08) => {
                clean.pop();
                State::Text
            }
            (State::Text, _) => {
                clean.push(byte);
                State::Text
            }
            // ECMA-48, 5.4: CSI, parameter and intermediate bytes 20h to 3Fh, a final byte 40h to 7Eh.
            (State::Escape, b'[') => State::Control,
            (State::Escape, 0x20..=0x2f) => State::Escape,
            (State::Escape, _) => State::Text,
            (State::Control, 0x20..=0x3f) => State::Control,
            (State::Control, b'H' | b'f') => {
                if clean.last().is_some_and(|last| *last != b'\n') {
                    clean.push(b'\n');
                }
                State::Text
            }
            (State::Control, _) => State::Text,
        };
    }
    String::from_utf8_lossy(&clean).into_owned()
}

enum State {
    Text,
    Escape,
    Control,
}
