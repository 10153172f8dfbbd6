//! What came of an act that is done twice as well as once.

/// Whether something had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was so.
    Already,
    /// It is so now.
    Changed,
}
