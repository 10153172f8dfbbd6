//! INQUIRY: who the logical unit is (SPC-5, INQUIRY and VPD pages; SBC-4, VPD pages).

use crate::cdb::Cdb;
use crate::identity::{Designator, Geometry, Identity, VENDOR, field};
use crate::response::Response;
use crate::sense::Sense;
use crate::{MOST_COMPARED, MOST_UNMAP_DESCRIPTORS, MOST_UNMAPPED, MOST_WRITTEN_SAME, most_transfer};

/// SAM-5, SPC-4, SPC-5, SBC-3, SBC-4 and iSCSI, no version claimed.
const STANDARDS: [u16; 6] = [0x00a0, 0x0460, 0x05c0, 0x04c0, 0x0600, 0x0960];

const PAGES: [u8; 7] = [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2];

/// INQUIRY.
pub(crate) fn inquiry(cdb: &Cdb, identity: &Identity, geometry: &Geometry) -> Result<Response, Sense> {
    let page = cdb.octet(2);
    let data = if !cdb.bit(1, 0x01) {
        // SPC-5: a page code without EVPD is INVALID FIELD IN CDB.
        if page != 0 {
            return Err(Sense::in_cdb(2));
        }
        standard(identity)
    } else {
        vital(page, identity, geometry).ok_or(Sense::in_cdb(2))?
    };
    Ok(Response::data(data, cdb.be16(3).into()))
}

fn standard(identity: &Identity) -> Vec<u8> {
    let mut out = vec![0; 8];
    // VERSION: SPC-4, the newest that initiators know; RESPONSE DATA FORMAT 2, HISUP.
    out[2] = 0x06;
    out[3] = 0x12;
    out[4] = 91;
    // CMDQUE.
    out[7] = 0x02;
    out.extend(field(VENDOR, 8));
    out.extend(field(&identity.product, 16));
    out.extend(field(&identity.revision, 4));
    out.resize(58, 0);
    out.extend(STANDARDS.iter().flat_map(|standard| standard.to_be_bytes()));
    out.resize(96, 0);
    out
}

/// A VPD page; `None` is one that there is not.
fn vital(page: u8, identity: &Identity, geometry: &Geometry) -> Option<Vec<u8>> {
    let body = match page {
        0x00 => PAGES.to_vec(),
        0x80 => {
            let length = identity.serial.len().clamp(1, 64);
            field(&identity.serial, length)
        }
        0x83 => designators(identity),
        0x86 => extended(),
        0xb0 => limits(geometry),
        0xb1 => characteristics(),
        0xb2 => provisioning(geometry),
        _ => return None,
    };
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = vec![0, page, high, low];
    out.extend(body);
    Some(out)
}

/// Device Identification (SPC-5, Device Identification VPD page).
fn designators(identity: &Identity) -> Vec<u8> {
    let mut out = Vec::new();
    for designator in &identity.designators {
        match designator {
            Designator::Naa(name) => push(&mut out, 0x01, 0x03, name),
            Designator::NaaExtended(name) => push(&mut out, 0x01, 0x03, name),
            Designator::Eui(name) => push(&mut out, 0x01, 0x02, name),
        }
    }
    // T10 vendor ID based: the vendor and the serial number.
    let mut vendor = field(VENDOR, 8);
    vendor.extend(field(&identity.serial, identity.serial.len().min(64)));
    push(&mut out, 0x02, 0x01, &vendor);
    // Of the target port (association 01b), with the protocol iSCSI (PIV).
    push(&mut out, 0x51, 0x94, &[0, 0, 0, 1]);
    let port = format!("{},t,0x{:04x}", identity.target, identity.portal_group);
    push(&mut out, 0x53, 0x98, &name_string(&port));
    // Of the target device (association 10b).
    push(&mut out, 0x53, 0xa8, &name_string(&identity.target));
    out
}

fn push(out: &mut Vec<u8>, codes: u8, kind: u8, name: &[u8]) {
    let name = &name[..name.len().min(252)];
    out.extend_from_slice(&[codes, kind, 0, name.len() as u8]);
    out.extend_from_slice(name);
}

/// SPC-5, SCSI name string designator: a SCSI name string ends with a null and is as long as a multiple of four.
fn name_string(name: &str) -> Vec<u8> {
    let mut out: Vec<u8> = name.bytes().take(240).collect();
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Extended INQUIRY Data (SPC-5, Extended INQUIRY Data VPD page).
fn extended() -> Vec<u8> {
    let mut out = vec![0; 60];
    // HEADSUP, ORDSUP, SIMPSUP.
    out[1] = 0x07;
    // V_SUP: there is a volatile cache.
    out[2] = 0x01;
    // LUICLR: unit attentions of an I_T nexus are its own.
    out[3] = 0x01;
    out
}

/// Block Limits (SBC-4, Block Limits VPD page).
fn limits(geometry: &Geometry) -> Vec<u8> {
    let mut out = vec![0; 60];
    // A medium's own blocks have 4096 octets, whatever the initiators' have.
    let granule = (1u32 << geometry.physical_exponent).max(4096 / geometry.block_size().octets());
    let most = most_transfer(geometry.block_size());
    // WSNZ zero: WRITE SAME of zero blocks goes to the end of the medium.
    out[1] = MOST_COMPARED;
    out[2..4].copy_from_slice(&u16::try_from(granule).unwrap_or(u16::MAX).to_be_bytes());
    out[4..8].copy_from_slice(&most.to_be_bytes());
    // The optimum: one mebibyte.
    out[8..12].copy_from_slice(&((1 << 20) / geometry.block_size().octets()).to_be_bytes());
    if geometry.thin {
        out[16..20].copy_from_slice(&MOST_UNMAPPED.to_be_bytes());
        out[20..24].copy_from_slice(&u32::from(MOST_UNMAP_DESCRIPTORS).to_be_bytes());
        out[24..28].copy_from_slice(&granule.to_be_bytes());
        out[28..32].copy_from_slice(&0x8000_0000u32.to_be_bytes());
    }
    out[32..40].copy_from_slice(&MOST_WRITTEN_SAME.to_be_bytes());
    out
}

/// Block Device Characteristics (SBC-4, Block Device Characteristics VPD page).
fn characteristics() -> Vec<u8> {
    let mut out = vec![0; 60];
    // MEDIUM ROTATION RATE 0001h: non-rotating.
    out[1] = 0x01;
    out
}

/// Logical Block Provisioning (SBC-4, Logical Block Provisioning VPD page).
fn provisioning(geometry: &Geometry) -> Vec<u8> {
    if !geometry.thin {
        return vec![0; 4];
    }
    // LBPU, LBPWS, LBPRZ 001b; PROVISIONING TYPE 010b: thin.
    vec![0, 0xc4, 0x02, 0]
}
