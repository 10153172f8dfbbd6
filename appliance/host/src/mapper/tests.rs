use super::*;

#[test]
fn a_table_is_laid_out_as_the_kernel_reads_it() {
    let target = target("verity", 56, "1 254:3 x");
    assert_eq!(target.len(), 56);
    assert_eq!(target[8..16], 56u64.to_ne_bytes());
    assert_eq!(target[20..24], 56u32.to_ne_bytes());
    assert_eq!(&target[24..31], b"verity\0");
    assert_eq!(&target[40..50], b"1 254:3 x\0");
    let message = message("slot", READ_ONLY, &target);
    assert_eq!(message.len(), HEAD + 56);
    assert_eq!(message[12..16], (HEAD as u32 + 56).to_ne_bytes());
    assert_eq!(message[16..20], (HEAD as u32).to_ne_bytes());
    assert_eq!(message[20..24], 1u32.to_ne_bytes());
    assert_eq!(message[28..32], 1u32.to_ne_bytes());
    assert_eq!(&message[48..53], b"slot\0");
}

#[test]
fn the_kernel_says_which_device_it_made() {
    let mut message = message("slot", 0, &[]);
    message[40..48].copy_from_slice(&0x0010_fd02_u64.to_ne_bytes());
    assert_eq!(minor(&message), 0x102);
}
