//! A box as its operator has it: who gets in, what runs and listens there, whose time it has, and what happens when it
//! hangs.

use crate::{directory, figures, ports, table};
use hw_tests::artifact::{Workshop, appliance};
use hw_tests::rack::{Description, Firmware, until};
use hw_tests::shell::{self, Shell};
use hw_tests::stand::{Given, PATIENCE, Stand};
use std::process::Command;
use std::time::Duration;

/// A hang of a minute, and a start.
const RESTART: Duration = Duration::from_secs(240);
/// Before the image was made, by years: a clock without a battery.
const LOST: &str = "2001-09-09T01:46:40";

/// Nobody else, by no other way, and no further.
fn only_the_key_gets_in(shell: &Shell, stand: &Stand, folder: &std::path::Path) {
    assert_eq!(shell.run("id -u; echo $HOME; cd; pwd").unwrap(), "0\n/run/kiln/root\n/run/kiln/root\n");
    let words =
        ["-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive"];
    let (stranger, _) = shell::key(&folder.join("stranger")).unwrap();
    let stranger = Shell::new(stand.rack().kiln(), &stranger);
    for refused in [shell.output(&words, "id").unwrap(), stranger.output(&[], "id").unwrap()] {
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("Permission denied (publickey)"), "{said}");
    }
    let through = shell.output(&["-W", "10.8.0.2:6640"], "").unwrap();
    assert!(!through.status.success(), "there is no way through the box");
    assert!(shell.run("echo x >/etc/passwd").is_err(), "the root is read-only");
    let terminal = shell.output(&["-tt"], "tty").unwrap();
    assert!(String::from_utf8_lossy(&terminal.stdout).contains("/dev/pts/"), "{terminal:?}");
    // Put back, for the client would not know the box by another.
    let damaged = shell.run(
        "cd /data/ssh; cp -p host_ed25519 kept; echo x >host_ed25519; host start >/dev/null 2>&1; host status; \
         mv kept host_ed25519; host start >/dev/null 2>&1",
    );
    let damaged = damaged.unwrap();
    assert!(damaged.contains("SSH: the host key was damaged and is another now"), "{damaged}");
}

/// The clock was set before the services began, is kept, and the lost one is said.
fn time_is_the_servers(shell: &Shell) {
    until(Duration::from_secs(60), "the time to be by NTP", || {
        Ok(shell.run("host status")?.contains("  time      by NTP\n").then_some(()))
    })
    .unwrap();
    let status = shell.run("host status").unwrap();
    assert!(status.contains("days before this system was made: look at the box's battery"), "{status}");
    let date = |said: &[u8]| String::from_utf8_lossy(said).trim().parse::<i64>().unwrap();
    let theirs = date(shell.run("date +%s").unwrap().as_bytes());
    let ours = date(&Command::new("date").arg("+%s").output().unwrap().stdout);
    assert!((ours - theirs).abs() <= 2, "{ours} here, {theirs} there");
    // The hardware clock said 2001 when the machine was switched on, and was set by hand only after that.
    let began = shell.run("stat -c %Y /run/kiln/services").unwrap();
    assert!((ours - date(began.as_bytes())).abs() < 3600, "the services began with the right time: {began}");
}

/// Only Debian's own modules, and the kernel's memory is nobody's; where the machine has no watchdog, the stand-in is
/// among the modules.
fn the_kernel_is_locked_down(shell: &Shell) {
    let said = shell.run("dmesg | grep 'Kernel is locked down from command line'");
    said.unwrap();
    assert!(shell.run("head -c 1 /dev/mem").is_err(), "the kernel's memory cannot be read");
    assert_eq!(shell.run("cat /sys/module/module/parameters/sig_enforce").unwrap(), "Y\n");
    shell.run("host -q -- softdog").unwrap();
    assert!(shell.run("cat /sys/class/watchdog/watchdog1/identity").unwrap().contains("Software Watchdog"));
}

fn supervisor(shell: &Shell) -> anyhow::Result<String> {
    Ok(shell
        .run("sed 's/.*\"supervisor\":\\([0-9]*\\).*/\\1/' /run/kiln/services/status.json")?
        .trim()
        .to_owned())
}

fn boot(shell: &Shell) -> anyhow::Result<String> {
    shell.run("cat /proc/sys/kernel/random/boot_id")
}

#[test]
fn an_operator_logs_in_by_key_and_finds_the_box_as_it_is_written() {
    let directory = directory("image-operation");
    let workshop = Workshop::open().unwrap();
    let image = appliance::built(&workshop).unwrap();
    let description = Description::of_nodes(2, Firmware::Bios).unwrap();
    let (key, public) = shell::key(&directory.join("keys")).unwrap();
    let given = Given { keys: vec![public], time_server: true, clock: Some(LOST.to_owned()) };
    let stand =
        Stand::raise_image_with(&description, &directory, PATIENCE, &image.disk, Firmware::Bios, &given)
            .unwrap();
    stand.describe().unwrap();
    let shell = Shell::new(stand.rack().kiln(), &key);
    figures::memory(&shell);
    let mut starts = vec![figures::start(&shell)];
    time_is_the_servers(&shell);
    only_the_key_gets_in(&shell, &stand, &directory);
    table::compare(&shell);

    // Whoever starts the supervisor again goes on feeding; nobody lets go of the watchdog meanwhile.
    let first = boot(&shell).unwrap();
    let before = supervisor(&shell).unwrap();
    shell.run(&format!("kill -9 {before}")).unwrap();
    until(
        Duration::from_secs(30),
        "another supervisor",
        || Ok((supervisor(&shell)? != before).then_some(())),
    )
    .unwrap();
    let said = shell.run("dmesg").unwrap();
    assert!(said.contains("watchdog did not stop!"), "it bites unless another feeds it: {said}");
    stand.wait_answer(Duration::from_secs(60)).unwrap();
    ports::are_as_written(&stand);
    assert_eq!(boot(&shell).unwrap(), first, "the box was not restarted");

    // It hangs. Meanwhile its kernel is started with nothing to do, to compare.
    shell.run(&format!("kill -STOP {}", supervisor(&shell).unwrap())).unwrap();
    let empty = figures::empty_init(&workshop, &image, &directory);
    until(RESTART, "the watchdog to restart the box", || {
        Ok(boot(&shell).ok().filter(|now| *now != first).map(drop))
    })
    .unwrap();
    stand.wait_answer(RESTART).unwrap();
    // The host key is the one of before, or the client would not have gone on.
    assert!(shell.run("cat /sys/class/watchdog/watchdog0/identity").unwrap().contains("i6300ESB"));
    starts.push(figures::start(&shell));
    figures::show(&starts, empty);
    the_kernel_is_locked_down(&shell);

    // An end in order lets go of it.
    shell.run("poweroff").unwrap();
    until(Duration::from_secs(60), "the box to end", || {
        let said = stand.rack().appliance_console();
        Ok(said.contains("watchdog rests, the machine ends").then_some(()))
    })
    .unwrap();
}
