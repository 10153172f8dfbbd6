use agent_proto::{CMDLINE_ATTEMPT, CMDLINE_BOOTIF, CMDLINE_TOKEN, CMDLINE_URL};
use boot::{Attempt, Mac, Secret};

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
