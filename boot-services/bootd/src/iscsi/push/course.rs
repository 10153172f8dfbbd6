//! In which order a push does what, and what of it is sure.

use boot::Digest;
use image::{EXTENT, Manifest};
use std::{collections::BTreeMap, ops::Range};

/// Extents of holes that are made at once, at most.
pub(super) const HOLES: usize = 64;

/// A part of an image that is dealt with by one command: an extent, or neighbouring holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The extents, counted in the image.
    pub(super) extents: Range<usize>,
    /// What they are; none: holes.
    pub(super) digest: Option<Digest>,
}

impl Part {
    /// The first octet in the image.
    pub(super) fn offset(&self) -> u64 {
        self.extents.start as u64 * EXTENT as u64
    }
}

/// A walk over some of an image's extents, in order. Several parts are under way at a time and end in any
/// order; what is behind the first that has not ended is not counted as sure.
#[derive(Debug)]
pub(super) struct Course<'a> {
    manifest: &'a Manifest,
    /// The extents to walk over: in order, none empty.
    ranges: Vec<Range<usize>>,
    /// The first extent that is not under way.
    next: usize,
    /// How many neighbouring holes are one part at most.
    holes: usize,
    /// Parts under way, and those that ended behind one that is: by their first extent, their end, and
    /// whether they ended.
    open: BTreeMap<usize, (usize, bool)>,
}

impl<'a> Course<'a> {
    /// Over `ranges` of the manifest's extents, beginning at extent `from`; at most `holes` neighbouring
    /// holes are one part.
    pub(super) fn new(
        manifest: &'a Manifest,
        ranges: Vec<Range<usize>>,
        from: usize,
        holes: usize,
    ) -> Course<'a> {
        Course { manifest, ranges, next: from, holes, open: BTreeMap::new() }
    }

    /// What is next; it is under way from now on.
    pub(super) fn next(&mut self) -> Option<Part> {
        let range = self.ranges.iter().find(|range| range.end > self.next)?;
        let first = range.start.max(self.next);
        let extents = &self.manifest.extents()[first..range.end.min(first + self.holes)];
        let digest = extents[0];
        let count = match digest {
            Some(_) => 1,
            None => extents.iter().take_while(|extent| extent.is_none()).count(),
        };
        self.next = first + count;
        self.open.insert(first, (self.next, false));
        Some(Part { extents: first..self.next, digest })
    }

    /// A part ended; gives its octets.
    pub(super) fn ended(&mut self, first: usize) -> u64 {
        let octets = self.open.get_mut(&first).map_or(0, |(end, ended)| {
            *ended = true;
            octets(self.manifest, first..*end)
        });
        while let Some(entry) = self.open.first_entry().filter(|entry| entry.get().1) {
            entry.remove();
        }
        octets
    }

    /// The first extent that is not sure: all of the walk before it has ended.
    pub(super) fn sure(&self) -> usize {
        self.open.first_key_value().map_or(self.next, |(first, _)| *first)
    }

    /// Whether all of it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.open.is_empty() && self.ranges.iter().all(|range| range.end <= self.next)
    }

    /// Octets of the image in what has ended, of how many in the whole walk.
    pub(super) fn progress(&self) -> (u64, u64) {
        let manifest = self.manifest;
        let under_way: u64 = self
            .open
            .iter()
            .filter(|(_, (_, ended))| !ended)
            .map(|(first, (end, _))| octets(manifest, *first..*end))
            .sum();
        let begun: u64 =
            self.ranges.iter().map(|range| octets(manifest, range.start..range.end.min(self.next))).sum();
        let total = self.ranges.iter().map(|range| octets(manifest, range.clone())).sum();
        (begun.saturating_sub(under_way), total)
    }
}

/// Octets of the image in some extents.
fn octets(manifest: &Manifest, extents: Range<usize>) -> u64 {
    let place = |extent: usize| (extent as u64 * EXTENT as u64).min(manifest.size());
    place(extents.end).saturating_sub(place(extents.start))
}

/// Extents, as few ranges as possible. They come in any order.
pub(super) fn ranges(extents: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut sorted: Vec<usize> = extents.into_iter().collect();
    sorted.sort_unstable();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for extent in sorted {
        match ranges.last_mut() {
            Some(last) if extent <= last.end => last.end = last.end.max(extent + 1),
            _ => ranges.push(extent..extent + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
