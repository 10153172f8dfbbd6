//! Which boot file a client is told, and in which dress.

use crate::codec::{Reply, Request, raw};
use boot::{Architecture, Boot};
use dhcproto::v4::DhcpOption;
use std::net::Ipv4Addr;

/// iPXE's option 175, sub-option 176 (no-pxedhcp) = 1: it need not wait for proxyDHCP offers.
const NO_PXEDHCP: [u8; 3] = [176, 1, 1];
/// PXE 2.1, table 2-3: PXE_DISCOVERY_CONTROL with bit 3, "if bit 3 = 1, and a boot file name is present in the
/// initial DHCP or ProxyDHCP offer packet, download the boot file (after reporting it)"; then the end.
const NO_DISCOVERY: [u8; 4] = [6, 1, 8, 255];

/// What kind of network boot a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// iPXE, wherever it runs: it is never given a boot loader, which would be itself again.
    Ipxe,
    /// Firmware that fetches by TFTP.
    Pxe,
    /// Firmware that fetches by HTTP.
    Http,
    /// None: an operating system or a deploy ramdisk.
    Plain,
}

/// What the request shows of its sender.
pub fn dress(request: &Request) -> Dress {
    let class = |name: &[u8]| request.vendor_class.as_ref().is_some_and(|class| class.starts_with(name));
    if request.ipxe {
        Dress::Ipxe
    } else if class(b"HTTPClient") {
        Dress::Http
    } else if class(b"PXEClient") {
        Dress::Pxe
    } else {
        Dress::Plain
    }
}

/// The architecture that counts: the first one that we know, or else the first.
pub fn architecture(request: &Request) -> Option<Architecture> {
    let known = request.architectures.iter().find(|a| !matches!(a, Architecture::Other(_)));
    known.or(request.architectures.first()).copied()
}

/// Dresses a reply for its client; `boot` none: it is told no file.
pub(crate) fn apply(reply: &mut Reply, request: &Request, boot: Option<&Boot>, server: Ipv4Addr) {
    let dress = dress(request);
    if dress == Dress::Ipxe {
        reply.options.push(raw(175, &NO_PXEDHCP));
    }
    let Some(file) = boot.and_then(|boot| file(dress, architecture(request), boot)) else { return };
    reply.file = Some(file.to_owned());
    match dress {
        Dress::Ipxe => reply.siaddr = server,
        Dress::Http => reply.options.push(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec())),
        Dress::Pxe => {
            reply.siaddr = server;
            reply.options.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            reply.options.push(DhcpOption::VendorExtensions(NO_DISCOVERY.to_vec()));
            if request.wishes.contains(&66) {
                reply.options.push(DhcpOption::TFTPServerName(server.to_string().into_bytes()));
            }
        }
        Dress::Plain => {}
    }
}

fn file(dress: Dress, architecture: Option<Architecture>, boot: &Boot) -> Option<&str> {
    match (dress, architecture) {
        (Dress::Ipxe, _) => Some(&boot.ipxe),
        // ROMs older than option 93 are BIOS ones.
        (Dress::Pxe, None | Some(Architecture::Bios)) => Some(&boot.bios),
        (Dress::Pxe, Some(Architecture::UefiX64)) => Some(&boot.uefi_x64),
        (Dress::Pxe, Some(Architecture::UefiArm64)) => boot.uefi_arm64.as_deref(),
        (Dress::Http, Some(Architecture::UefiX64Http)) => Some(&boot.http_x64),
        (Dress::Http, Some(Architecture::UefiArm64Http)) => boot.http_arm64.as_deref(),
        (Dress::Plain | Dress::Pxe | Dress::Http, _) => None,
    }
}

#[cfg(test)]
mod tests;
