use core::ops::Range;

/// What part of a representation a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// These octets, at least one.
    Part(Range<u64>),
    /// None that there are.
    Beyond,
}

/// Reads a Range field (RFC 9110, 14.2) for a representation of `size` octets.
///
/// Several ranges, other units and what does not parse are ignored: "A server MAY ignore the Range header
/// field", and "An origin server MUST ignore a Range header field that contains a range unit it does not
/// understand."
pub(super) fn asked(field: Option<&str>, size: u64) -> Asked {
    field.and_then(|field| parse(field, size)).unwrap_or(Asked::Whole)
}

fn parse(field: &str, size: u64) -> Option<Asked> {
    let (unit, set) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // RFC 9110, 14.1.2 sets no limit; more than we can count is past every end.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some(if length == 0 { Asked::Beyond } else { Asked::Part(size - length..size) });
    }
    let first = number(first)?;
    let end = if last.is_empty() { size } else { number(last)?.saturating_add(1) };
    if first >= end && !last.is_empty() {
        // "An int-range is invalid if the last-pos value is present and less than first-pos."
        return None;
    }
    Some(if first >= size { Asked::Beyond } else { Asked::Part(first..end.min(size)) })
}

#[cfg(test)]
mod tests;
