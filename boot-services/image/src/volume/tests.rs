use super::*;
use crate::EXTENT;
use core::ops::ControlFlow;
use cut::Random;
use disk::Disk;
use rig::{Op, Rig, SECTOR, Shelf, TestVolume, image, sector, tag};

mod cut;
mod disk;
mod rig;

const MIB: u64 = EXTENT as u64;

fn run(rig: &mut Rig, ops: &[Op]) -> TestVolume {
    let mut volume = rig.open().unwrap();
    for op in ops {
        rig.run(&mut volume, *op).unwrap();
    }
    assert_eq!(rig.read(&volume), rig.current);
    volume
}

/// What the segments of all of it hold.
fn gather(rig: &Rig, volume: &TestVolume) -> Vec<u64> {
    let mut octets = Vec::new();
    for segment in volume.segments(0, volume.size()).unwrap() {
        let mut part = vec![0; segment.length as usize];
        match segment.place {
            Place::Zero => {}
            Place::Layer { layer, offset } => layer.data().read_at(offset, &mut part).unwrap(),
            Place::Extent { digest, skip } => {
                let base = volume.base().unwrap();
                base.blocks().get(&digest, skip as usize, &mut part).unwrap();
            }
        }
        octets.extend(part);
    }
    assert_eq!(octets.len() as u64, rig.sectors * SECTOR);
    octets.chunks(512).map(|sector| tag(sector).unwrap_or(u64::MAX)).collect()
}

#[test]
fn the_page_of_a_released_version_never_changes() {
    let id = LayerId(*b"a layer's name..");
    let words = page::empty();
    words[0].store(0x9249_0000_0000_0001, Ordering::Relaxed);
    let page = page::encode(&id, 7, 3, &page::octets(&words, 0..page::WORDS));
    let head: String = page[..48].iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(
        head,
        concat!(
            "4b696c6e4d617001",
            "61206c617965722773206e616d652e2e",
            "0700000000000000",
            "03000000",
            "cd23449e",
            "0100000000004992"
        )
    );
    assert_eq!((page.len(), page::copy_place(3, 7), page::copy_place(3, 8)), (4096, 36864, 32768));
    assert_eq!(page::newest(&id, 3, &page).map(|(sequence, _)| sequence), Some(7));
    for at in 0..page.len() {
        let mut flipped = page.clone();
        flipped[at] ^= 4;
        assert!(page::newest(&id, 3, &flipped).is_none());
    }
    assert!(page::newest(&id, 4, &page).is_none() && page::newest(&LayerId([0; 16]), 3, &page).is_none());
    assert_eq!("00ff00000000000000000000000000aa".parse::<LayerId>().unwrap().to_string().len(), 32);
    assert!(
        "00ff".parse::<LayerId>().is_err() && "+0ff00000000000000000000000000aa".parse::<LayerId>().is_err()
    );
}

#[test]
fn segments_are_what_is_read_wherever_it_is() {
    let mut rig = Rig::new(100, Some(image(43, |number| number != 3)));
    let volume = run(
        &mut rig,
        &[
            Op::Write(4, 12),
            Op::Zero(32, 8),
            Op::Freeze,
            Op::Write(6, 2),
            Op::Zero(8, 8),
            Op::Write(96, 4),
            Op::Zero(40, 3),
        ],
    );
    assert_eq!(gather(&rig, &volume), rig.current);
    for offset in 0..20 {
        let mut part = vec![1; 3000];
        volume.read_at(offset * 777, &mut part).unwrap();
        let mut whole = vec![0; rig.sectors as usize * 512];
        volume.read_at(0, &mut whole).unwrap();
        assert_eq!(part, whole[offset as usize * 777..][..3000]);
    }
}

#[test]
fn what_is_provisioned_is_told_in_runs() {
    let mut rig = Rig::new(8 * 2048, Some(image(3 * 2048, |number| number >= 2048)));
    let volume = run(&mut rig, &[Op::Write(8, 8), Op::Zero(4096, 16), Op::Write(16376, 8)]);
    let block = BLOCK;
    for (offset, expected) in [
        (0, (Provisioning::Deallocated, block)),
        (block, (Provisioning::Mapped, block)),
        (2 * block, (Provisioning::Deallocated, MIB - 2 * block)),
        (MIB + 512, (Provisioning::Mapped, MIB - 512)),
        (2 * MIB, (Provisioning::Deallocated, 2 * block)),
        (2 * MIB + 2 * block, (Provisioning::Mapped, MIB - 2 * block)),
        (3 * MIB, (Provisioning::Deallocated, 5 * MIB - block)),
        (8 * MIB - block, (Provisioning::Mapped, block)),
    ] {
        assert_eq!(volume.provisioned(offset).unwrap(), expected, "{offset}");
    }
    assert_eq!(volume.allocated().unwrap(), 2 * block);
    assert!(volume.provisioned(8 * MIB).is_err());
}

#[test]
fn zeroing_what_is_zero_marks_nothing() {
    let mut rig = Rig::new(9000, Some(image(3 * 2048 + 43, |number| number / 2048 == 1)));
    let volume = run(&mut rig, &[Op::Zero(0, 2048), Op::Zero(2 * 2048, 9000 - 2 * 2048)]);
    assert!(volume.is_untouched().unwrap());
    let volume = run(&mut rig, &[Op::Zero(0, 9000)]);
    assert!(!volume.is_untouched().unwrap());
    assert_eq!(volume.allocated().unwrap(), 0);
}

#[test]
fn what_is_outside_is_refused() {
    let mut rig = Rig::new(9, None);
    let volume = run(&mut rig, &[Op::Write(8, 1)]);
    for (offset, length) in [(9 * 512, 1), (u64::MAX, 2), (0, 9 * 512 + 1), (u64::MAX, 0)] {
        let mut octets = vec![0; (length as usize).min(5000)];
        let refused = [
            volume.read_at(offset, &mut octets).err(),
            volume.write_at(offset, &octets).err(),
            volume.zero(offset, length).err(),
            volume.segments(offset, length).err(),
        ];
        assert!(refused.iter().all(|e| matches!(e, Some(VolumeError::OutOfRange { .. }))), "{refused:?}");
    }
    volume.write_at(9 * 512, &[]).unwrap();
    volume.zero(0, 0).unwrap();
}

#[test]
fn the_seventeenth_layer_is_refused_and_flattening_makes_room() {
    let mut rig = Rig::new(64, Some(image(43, |_| true)));
    let mut volume = rig.open().unwrap();
    for layer in 1..MAX_LAYERS as u64 {
        rig.run(&mut volume, Op::Write(layer, 2)).unwrap();
        rig.run(&mut volume, Op::Freeze).unwrap();
    }
    assert_eq!(volume.layers().len(), MAX_LAYERS);
    let refused = rig.run(&mut volume, Op::Freeze).unwrap_err();
    assert!(refused.to_string().contains("flatten it first"), "{refused}");
    rig.run(&mut volume, Op::Flatten(Depth::Layers)).unwrap();
    assert_eq!((volume.layers().len(), volume.base().is_some()), (1, true));
    assert_eq!(volume.allocated().unwrap(), 3 * BLOCK);
    rig.run(&mut volume, Op::Freeze).unwrap();
    rig.run(&mut volume, Op::Flatten(Depth::All)).unwrap();
    assert_eq!((volume.layers().len(), volume.base().is_some()), (1, false));
    assert_eq!(rig.read(&volume), rig.current);
}

#[test]
fn flattening_goes_on_where_it_was_stopped() {
    let mut rig = Rig::new(5 * 2048, Some(image(5 * 2048, |number| number % 2048 < 1024)));
    let volume = run(&mut rig, &[Op::Write(3, 9), Op::Zero(100, 50)]);
    let step = |volume: &TestVolume| {
        let mut tells = 0;
        let stopped = volume.flatten::<VolumeError>(
            Depth::All,
            &mut |_| {
                tells += 1;
                if tells > 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
            || Ok(()),
        );
        stopped.unwrap()
    };
    let mut before = volume.allocated().unwrap();
    assert!(step(&volume).is_break());
    assert!(volume.allocated().unwrap() > before);
    before = volume.allocated().unwrap();
    let done: ControlFlow<()> =
        volume.flatten::<VolumeError>(Depth::All, &mut |_| ControlFlow::Continue(()), || Ok(())).unwrap();
    assert!(done.is_continue() && volume.allocated().unwrap() > before);
    assert_eq!(rig.read(&volume), rig.current);
}

#[test]
fn both_copies_of_a_page_damaged_is_said_and_one_is_healed() {
    let page_of_blocks = page::PER_PAGE * 8;
    let mut rig = Rig::new(3 * page_of_blocks, None);
    let volume = run(
        &mut rig,
        &[Op::Write(1, 9), Op::Write(page_of_blocks, 8), Op::Write(2 * page_of_blocks, 8), Op::Reopen],
    );
    let layer = volume.chain().own().clone();
    assert_eq!(layer.check().unwrap(), []);
    // The live map would serve as well.
    let rig = rig.on(rig.disk.clone(), true, false);
    let damage = |number: u64| {
        rig.disk.0.lock().unwrap().cached[1].write((2 + number) * 4096 + 77, b"damage");
    };
    // Page 1 is the fourth and fifth after the head's two.
    damage(2);
    assert_eq!(layer.check().unwrap(), [BadPage { offset: page_of_blocks * 512, lost: false }]);
    // Both copies say the same since it was closed: the other one serves.
    assert_eq!(rig.read(&rig.open().unwrap()), rig.current);
    damage(3);
    assert_eq!(layer.check().unwrap(), [BadPage { offset: page_of_blocks * 512, lost: true }]);
    let volume = rig.open().unwrap();
    let offset = page_of_blocks * 512;
    let mut octets = [0; 512];
    for refused in [
        volume.read_at(offset + 5, &mut octets).unwrap_err(),
        volume.write_at(offset, &octets).unwrap_err(),
        volume.zero(offset, 4096).unwrap_err(),
        volume.segments(0, volume.size()).map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(refused.offset(), Some(offset), "{refused}");
        assert!(refused.to_string().contains("both copies of the map"), "{refused}");
    }
    // What it does not speak of goes on.
    volume.write_at(0, &sector(5)).unwrap();
    volume.read_at(2 * offset, &mut octets).unwrap();
    assert_eq!(tag(&octets), Some(rig.current[2 * page_of_blocks as usize]));
    volume.flush().unwrap();
    rig.disk.0.lock().unwrap().cached[1].write(77, b"damage");
    rig.disk.0.lock().unwrap().cached[1].write(4096 + 77, b"damage");
    assert!(matches!(rig.open().unwrap_err(), VolumeError::DamagedMap { offset: 0, .. }));
}

#[test]
fn of_a_frozen_layer_one_copy_of_the_map_is_enough() {
    for copy in [2, 3] {
        let mut rig = Rig::new(100, None);
        drop(run(&mut rig, &[Op::Write(1, 1), Op::Flush, Op::Write(9, 1), Op::Freeze]));
        rig.disk.0.lock().unwrap().cached[1].write(copy * 4096 + 77, b"damage");
        let rig = rig.on(rig.disk.clone(), true, false);
        assert_eq!(rig.read(&rig.open().unwrap()), rig.current);
    }
}

#[test]
fn an_extent_that_is_not_what_its_digest_says_is_no_data() {
    let (manifest, shelf) = image(3 * 2048, |_| true);
    let digests: Vec<_> = manifest.digests().collect();
    let mut memory = crate::import::tests::Memory(shelf.0.0.clone());
    memory.0.get_mut(&digests[1]).unwrap()[5000] ^= 1;
    memory.0.get_mut(&digests[2]).unwrap().pop();
    let (id, size) = (LayerId([1; 16]), 3 * MIB);
    let own = Layer::create(id, size, Disk::default().layer(0), Epoch([1; 32])).unwrap();
    let base = Base::new(manifest.id(), manifest, Shelf(Arc::new(memory)));
    let volume = Volume::new(size, vec![Arc::new(own)], Some(Arc::new(base))).unwrap();
    let mut octets = [0; 512];
    for at in [MIB, 2 * MIB - 512, 2 * MIB, 3 * MIB - 512] {
        for refused in [
            volume.read_at(at, &mut octets).unwrap_err(),
            volume.segments(0, size).map(|_| ()).unwrap_err(),
            // Of the rest of the block nothing is known.
            volume.write_at(at, &octets).unwrap_err(),
        ] {
            assert!(matches!(refused, VolumeError::DamagedExtent { .. }), "{refused}");
            assert!(refused.to_string().contains("import the image again"));
        }
    }
    volume.read_at(0, &mut octets).unwrap();
    assert_eq!(tag(&octets), Some(1_000_000));
    volume.write_at(MIB, &[octets; 8].concat()).unwrap();
    volume.read_at(MIB, &mut octets).unwrap();
    assert_eq!(tag(&octets), Some(1_000_000));
}

#[test]
fn a_full_disk_is_said_and_harms_nothing() {
    let mut rig = Rig::new(200, Some(image(100, |_| true)));
    let mut volume = run(&mut rig, &[Op::Write(3, 20), Op::Flush, Op::Write(4, 2), Op::Zero(40, 8)]);
    rig.disk.0.lock().unwrap().full = true;
    // What has room already is written, and kept.
    for op in [Op::Write(5, 3), Op::Flush, Op::Write(8, 8), Op::Zero(16, 8), Op::Flush] {
        rig.run(&mut volume, op).unwrap();
    }
    for (first, count) in [(60, 1), (64, 16), (150, 3)] {
        let octets = vec![9; count * 512];
        let refused = volume.write_at(first * 512, &octets).unwrap_err();
        assert!(refused.is_full() && refused.offset().is_some(), "{refused}");
        assert_eq!(rig.read(&volume), rig.current);
    }
    volume.flush().unwrap();
    rig.on(rig.disk.cut(&mut |_| false, 0), true, false).check_legal("full");
    rig.disk.0.lock().unwrap().full = false;
    for op in [Op::Write(60, 1), Op::Write(64, 16), Op::Write(150, 3), Op::Flush] {
        rig.run(&mut volume, op).unwrap();
    }
    assert_eq!(rig.read(&volume), rig.current);
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_it_is_opened_again() {
    let mut rig = Rig::new(100, None);
    let mut volume = run(&mut rig, &[Op::Write(1, 1), Op::Flush, Op::Write(9, 1)]);
    rig.disk.0.lock().unwrap().fuse = Some(0);
    assert!(matches!(volume.flush().unwrap_err(), VolumeError::Io { .. }));
    let mut state = rig.disk.0.lock().unwrap();
    (state.fuse, state.stopped) = (None, None);
    drop(state);
    for refused in [volume.flush(), volume.write_at(0, &sector(1)), volume.zero(0, 4096)] {
        assert!(matches!(refused, Err(VolumeError::Lost)), "{refused:?}");
    }
    assert_eq!(rig.read(&volume), rig.current);
    volume = rig.open().unwrap();
    assert_eq!(rig.read(&volume)[1], rig.current[1]);
    volume.write_at(0, &sector(7)).unwrap();
    volume.flush().unwrap();
}

#[test]
fn writers_of_one_block_lose_none_of_each_others_sectors() {
    for seed in 0..20 {
        let rig = Rig::new(256, Some(image(100, |_| true)));
        let volume = rig.open().unwrap();
        // Each has every fourth sector, writes them in an order of its own, and a third of them twice.
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let volume = &volume;
                scope.spawn(move || {
                    let mut random = Random(seed * 4 + writer);
                    for turn in 0..90 {
                        let at = random.below(64) * 4 + writer;
                        volume.write_at(at * 512, &sector(1000 * turn + at)).unwrap();
                        let mut back = [0; 512];
                        volume.read_at(at * 512, &mut back).unwrap();
                        assert_eq!(tag(&back), Some(1000 * turn + at));
                    }
                });
            }
            scope.spawn(|| (0..20).for_each(|_| volume.flush().unwrap()));
        });
        for (number, found) in rig.read(&volume).into_iter().enumerate() {
            assert!(found == rig.current[number] || found % 1000 == number as u64, "{number} is {found}");
        }
    }
}

#[test]
fn a_volume_is_flattened_and_frozen_while_it_is_written_to() {
    let rig = Rig::new(4 * 2048, Some(image(3 * 2048, |number| number % 3 != 0)));
    let volume = rig.open().unwrap();
    let mut written = vec![None; rig.sectors as usize];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut random = Random(7);
            for turn in 1..4000 {
                let at = random.below(rig.sectors - 20);
                let count = random.below(20) + 1;
                let octets: Vec<u8> = (at..at + count).flat_map(|at| sector(turn * 10_000 + at)).collect();
                if turn % 9 == 0 {
                    volume.zero(at * 512, count * 512).unwrap();
                } else {
                    volume.write_at(at * 512, &octets).unwrap();
                }
                for at in at..at + count {
                    written[at as usize] = Some(if turn % 9 == 0 { 0 } else { turn * 10_000 + at });
                }
            }
        });
        let mut number = 1;
        while !writer.is_finished() {
            let own = Layer::create(
                LayerId([number as u8 + 1; 16]),
                rig.sectors * 512,
                rig.disk.layer(number),
                Epoch([1; 32]),
            );
            volume.freeze::<VolumeError>(Arc::new(own.unwrap()), || Ok(())).unwrap();
            let depth = if number % 2 == 0 { Depth::Layers } else { Depth::All };
            let _ =
                volume.flatten::<VolumeError>(depth, &mut |_| ControlFlow::Continue(()), || Ok(())).unwrap();
            number += 1;
        }
    });
    for (number, found) in rig.read(&volume).into_iter().enumerate() {
        assert_eq!(found, written[number].unwrap_or(rig.current[number]), "{number}");
    }
}
