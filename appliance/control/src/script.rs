use crate::hold::Access;
use agent_proto::{CMDLINE_ATTEMPT, CMDLINE_BOOTIF, CMDLINE_TOKEN, CMDLINE_URL};
use boot::{Attempt, Mac, NodeName, Secret};
use std::net::SocketAddr;

/// What iPXE runs to start the deploy ramdisk for one attempt.
pub(crate) fn ramdisk(url: &str, attempt: &Attempt, token: &Secret, mac: Mac, more: &str) -> Secret {
    Secret::new(format!(
        "#!ipxe\n\
         echo Kiln: attempt {attempt}\n\
         kernel {url}/boot/vmlinuz initrd=initramfs {CMDLINE_URL}={url} {CMDLINE_ATTEMPT}={attempt} \
         {CMDLINE_TOKEN}={token} {CMDLINE_BOOTIF}=01-{mac} {more} || goto failed\n\
         initrd --name initramfs {url}/boot/initramfs || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo Kiln: the deploy ramdisk could not be started; trying again\n\
         sleep 2\n\
         chain --replace {url}/boot/{attempt}.ipxe || reboot\n",
        token = token.expose(),
        mac = mac.hyphens(),
    ))
}

/// What iPXE runs to boot a node from its volume.
pub(crate) fn san(url: &str, name: &str, node: &NodeName, portal: SocketAddr, access: &Access) -> Secret {
    let chap = &access.chap;
    let reverse = chap.target_secret.as_ref().map_or_else(
        || "clear reverse-username\nclear reverse-password\n".to_owned(),
        |secret| {
            format!("set reverse-username {}\nset reverse-password {}\n", chap.target_user, secret.expose())
        },
    );
    Secret::new(format!(
        "#!ipxe\n\
         echo Kiln: {node} boots from its volume\n\
         set initiator-iqn {initiator}\n\
         set username {user}\n\
         set password {secret}\n\
         {reverse}\
         sanunhook --drive 0x80 ||\n\
         sanboot --drive 0x80 iscsi:{address}::{port}:0:{target} || goto failed\n\
         :failed\n\
         echo Kiln: the volume could not be booted (${{errno}}); trying again\n\
         sleep 5\n\
         chain --replace {url}/boot/{name}.ipxe || reboot\n",
        initiator = access.initiator,
        user = chap.user,
        secret = chap.secret.expose(),
        address = portal.ip(),
        port = portal.port(),
        target = access.target,
    ))
}

/// What machines run that nobody enrolled: they stay, and ask again now and then.
pub(crate) fn hold(url: &str) -> Secret {
    Secret::new(format!(
        "#!ipxe\n\
         echo Kiln: nobody enrolled this machine. Its address is ${{net0/mac}}.\n\
         echo Kiln: kiln discovered list shows it; kiln node enroll takes it in.\n\
         sleep 30\n\
         chain --replace {url}/boot/hold.ipxe || reboot\n"
    ))
}
