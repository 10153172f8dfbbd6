use super::*;
use image::Sha256;

/// A manifest of `data` and holes, whose last extent is half a MiB.
fn manifest(extents: &[bool]) -> Manifest {
    let digests = extents.iter().map(|data| data.then_some(Digest([7; 32]))).collect();
    let size = extents.len() as u64 * EXTENT as u64 - EXTENT as u64 / 2;
    Manifest::new(size, Sha256::new([0; 32]), digests).unwrap()
}

fn all(course: &mut Course<'_>) -> Vec<(Range<usize>, bool)> {
    std::iter::from_fn(|| course.next()).map(|part| (part.extents, part.digest.is_some())).collect()
}

#[test]
fn data_goes_by_extents_and_holes_by_stretches() {
    let manifest = manifest(&[true, true, false, false, false, true, false]);
    let mut course = Course::new(&manifest, ranges(0..7), 0, HOLES);
    assert_eq!(all(&mut course), [(0..1, true), (1..2, true), (2..5, false), (5..6, true), (6..7, false)]);
}

#[test]
fn a_stretch_of_holes_is_bounded() {
    let manifest = manifest(&[false; 2 * HOLES + 1]);
    let mut course = Course::new(&manifest, ranges(0..2 * HOLES + 1), 0, HOLES);
    let ends: Vec<usize> = all(&mut course).iter().map(|(extents, _)| extents.len()).collect();
    assert_eq!(ends, [HOLES, HOLES, 1]);
}

#[test]
fn only_what_has_nothing_open_before_it_is_sure() {
    let manifest = manifest(&[true; 5]);
    let mut course = Course::new(&manifest, ranges(0..5), 0, HOLES);
    assert_eq!(course.sure(), 0);
    all(&mut course);
    course.ended(1);
    course.ended(3);
    assert_eq!(course.sure(), 0);
    course.ended(0);
    assert_eq!(course.sure(), 2);
    assert!(!course.is_over());
    course.ended(4);
    assert_eq!(course.sure(), 2);
    course.ended(2);
    assert_eq!((course.sure(), course.is_over()), (5, true));
}

#[test]
fn what_was_not_sure_is_done_again() {
    let manifest = manifest(&[true; 4]);
    let mut course = Course::new(&manifest, ranges(0..4), 0, HOLES);
    all(&mut course);
    assert_eq!(course.ended(0), EXTENT as u64);
    course.ended(2);
    let mut course = Course::new(&manifest, ranges(0..4), course.sure(), HOLES);
    assert_eq!((course.sure(), course.is_over()), (1, false));
    assert_eq!(all(&mut course).len(), 3);
    // The answer to a part that was begun before is nobody's.
    assert_eq!(course.ended(0), 0);
    assert_eq!(course.sure(), 1);
}

#[test]
fn a_course_over_some_extents_leaves_out_the_others() {
    let manifest = manifest(&[true, false, false, true, true, true]);
    let mut course = Course::new(&manifest, ranges([4, 1, 5]), 0, HOLES);
    assert_eq!(all(&mut course), [(1..2, false), (4..5, true), (5..6, true)]);
    let total = 2 * EXTENT as u64 + EXTENT as u64 / 2;
    assert_eq!(course.progress(), (0, total));
    course.ended(4);
    assert_eq!(course.progress(), (EXTENT as u64, total));
    course.ended(1);
    course.ended(5);
    assert_eq!((course.progress(), course.is_over()), ((total, total), true));
}

#[test]
fn a_course_goes_on_in_the_middle_of_holes() {
    let manifest = manifest(&[false; 9]);
    let mut course = Course::new(&manifest, ranges(0..9), 5, HOLES);
    assert_eq!(all(&mut course), [(5..9, false)]);
    assert_eq!(course.progress().0, 5 * EXTENT as u64);
}

#[test]
fn ranges_are_few() {
    assert_eq!(ranges([3, 1, 2, 7, 7]), [1..4, 7..8]);
    assert!(ranges([]).is_empty());
}

/// Parts end in any order, connections break at any moment: in the end each extent was dealt with, and
/// none counted as sure that was not.
#[test]
fn whatever_order_parts_end_in_every_extent_is_dealt_with() {
    let mut number = 1u64;
    let mut random = move |below: usize| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (number >> 33) as usize % below
    };
    for _ in 0..200 {
        let extents: Vec<bool> = (0..1 + random(40)).map(|_| random(3) > 0).collect();
        let manifest = manifest(&extents);
        let mut course = Course::new(&manifest, ranges(0..extents.len()), 0, HOLES);
        let (mut open, mut done, mut flushed) = (Vec::new(), vec![false; extents.len()], 0);
        while !course.is_over() {
            match random(10) {
                0 => {
                    open.clear();
                    done[flushed..].fill(false);
                    course = Course::new(&manifest, ranges(0..extents.len()), flushed, HOLES);
                }
                1 => {
                    flushed = course.sure();
                    assert!(done[..flushed].iter().all(|done| *done));
                }
                2..6 => open.extend(course.next()),
                _ if open.is_empty() => {}
                _ => {
                    let part = open.swap_remove(random(open.len()));
                    done[part.extents.clone()].fill(true);
                    course.ended(part.extents.start);
                }
            }
            let (progress, total) = course.progress();
            assert!(progress <= total);
        }
        assert!(done.iter().all(|done| *done));
    }
}
