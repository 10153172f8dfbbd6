//! What real BMCs were met to do wrong.

use core::time::Duration;

/// A bug that a [`Bmc`](crate::Bmc) can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Answers nothing.
    Deaf,
    /// Answers nothing outside of a session but the handshake.
    NoCapabilities,
    /// Sends every answer twice: once more, sealed anew.
    AnswersTwice,
    /// Sends every n-th answer so much later; 1: every answer.
    Late(u32, Duration),
    /// Accepts Power Up and does nothing.
    IgnoresPowerOn,
    /// Accepts Power Down and does nothing.
    IgnoresPowerOff,
    /// Power changes so long after the command that was accepted.
    SlowPower(Duration),
    /// Accepts boot flags and does not keep them.
    ForgetsBootFlags,
    /// Knows of the boot options but parameter 5: completion code 80h.
    OnlyBootFlags,
    /// Refuses Get System Boot Options.
    BootFlagsUnread,
    /// Refuses the algorithms of suite 17.
    RefusesSuite17,
    /// Says nothing to the algorithms of suite 17.
    SilentOnSuite17,
    /// Answers suite 3 whatever was proposed.
    AlwaysSuite3,
    /// Never forgets a session that was not closed.
    LeaksSessions,
    /// Every n-th command in a session is answered C0h, node busy.
    BusyEvery(u32),
    /// Draws a new random number for a repeated RAKP message 1.
    FreshRandom,
}
