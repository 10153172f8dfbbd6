use super::*;

/// Answers all questions by `answer` and gives what comes out.
fn probed(answer: impl Fn(Question) -> Result<Vec<u8>, Option<Sense>>) -> Result<Disk, String> {
    let mut probe = Probe::default();
    let mut question = Question::Ready;
    for _ in 0..20 {
        let data = answer(question);
        match probe.handle(question, data.as_deref().map_err(|sense| *sense)) {
            Next::Ask(next) => question = next,
            Next::Known(disk) => return Ok(*disk),
            Next::Unfit(why) => return Err(why),
        }
    }
    panic!("it asks for ever");
}

const ILLEGAL: Sense = Sense { key: 5, code: (0x20, 0), deferred: false, information: None };

/// A disk of the simplest kind, as old targets have it.
fn plain(question: Question) -> Result<Vec<u8>, Option<Sense>> {
    match question {
        Question::Ready => Ok(vec![]),
        Question::Standard => Ok(vec![0; 36]),
        Question::Capacity10 => Ok(vec![0, 0, 0, 99, 0, 0, 2, 0]),
        _ => Err(Some(ILLEGAL)),
    }
}

#[test]
fn a_disk_without_pages_and_without_read_capacity_16_is_used_all_the_same() {
    let disk = probed(plain).unwrap();
    assert_eq!((disk.blocks, disk.block_size, disk.longest_transfer), (100, 512, MOST_TRANSFER));
    assert_eq!((disk.holes, disk.unmaps, disk.longest_hole), (Holes::Same, false, (MOST_HOLE / 512) as u32));
}

#[test]
fn what_is_no_usable_disk_is_said() {
    let with = |of: Question, data: &[u8]| {
        let data = data.to_vec();
        probed(move |question| if question == of { Ok(data.clone()) } else { plain(question) }).unwrap_err()
    };
    assert_eq!(with(Question::Standard, &[0x7f]), "there is no such LUN at the target");
    assert_eq!(with(Question::Standard, &[5]), "the LUN is no disk but of type 0x05");
    assert_eq!(with(Question::Standard, &[]), "the INQUIRY data are empty");
    assert_eq!(with(Question::Capacity16, &[0; 4]), "the disk's capacity is cut short");
    assert_eq!(with(Question::Capacity10, &[0, 0, 0, 9, 0, 0, 0, 1]), "it has blocks of 1 octets");
    let refused = probed(|_| Err(Some(ILLEGAL))).unwrap_err();
    assert_eq!(refused, "the disk answers ILLEGAL REQUEST 20/00");
}

#[test]
fn limits_are_the_disks_and_ours() {
    let limits = |transfer: u32, unmap: u32, same: u64| {
        probed(move |question| match question {
            Question::Pages => Ok(vec![0, 0, 0, 2, 0xb0, 0xb2]),
            Question::Provisioning => Ok(vec![0, 0xb2, 0, 4, 0, 0xc0, 0, 0]),
            Question::Limits => {
                let mut page = vec![0, 0xb0, 0, 60];
                page.resize(64, 0);
                page[8..12].copy_from_slice(&transfer.to_be_bytes());
                page[20..24].copy_from_slice(&unmap.to_be_bytes());
                page[36..44].copy_from_slice(&same.to_be_bytes());
                Ok(page)
            }
            other => plain(other),
        })
        .unwrap()
    };
    let disk = limits(128, 1000, 500);
    assert_eq!(
        (disk.longest_transfer, disk.longest_hole, disk.holes, disk.unmaps),
        (65_536, 500, Holes::Unmap, true)
    );
    assert_eq!(limits(0, 70, 0).longest_hole, 70);
    assert_eq!(limits(u32::MAX, u32::MAX, u64::MAX).longest_hole, (MOST_HOLE / 512) as u32);
}

#[test]
fn a_page_that_lies_about_its_length_is_read_as_far_as_it_goes() {
    for length in 0..64 {
        let disk = probed(|question| match question {
            Question::Pages => Ok(vec![0, 0, 0xff, 0xff, 0x80, 0x83, 0xb0, 0xb2]),
            Question::Capacity10 => plain(question),
            Question::Serial | Question::Limits | Question::Designators | Question::Provisioning => {
                Ok([&[0, question.page().unwrap(), 0xff, 0xff][..], &vec![7; length]].concat()[..length]
                    .to_vec())
            }
            other => plain(other),
        });
        assert!(disk.is_ok());
    }
}
