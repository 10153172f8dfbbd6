//! What runs and what listens: as rootfs/README.md has it, and as a booted box has it.

use hw_tests::rack::UPLINK;
use hw_tests::shell::Shell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const README: &str = include_str!("../../../rootfs/README.md");
/// capabilities(7), by their bits.
const CAPABILITIES: [(&str, u32); 10] = [
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("FOWNER", 3),
    ("KILL", 5),
    ("LINUX_IMMUTABLE", 9),
    ("NET_BIND_SERVICE", 10),
    ("NET_RAW", 13),
    ("SYS_ADMIN", 21),
    ("SYS_TIME", 25),
    ("LEASE", 28),
];
const GROUP: &str = "64700";

/// The rows of the table below a heading, by their columns' names.
fn rows(heading: &str) -> Vec<BTreeMap<&'static str, &'static str>> {
    let after = README.split_once(heading).unwrap().1;
    let after = after.split("\n## ").next().unwrap();
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let columns = cells(lines.next().unwrap());
    lines.skip(1).map(|line| columns.iter().copied().zip(cells(line)).collect()).collect()
}

/// A process of the box.
#[derive(Clone, Debug, Default)]
struct Process {
    pid: u32,
    command: Vec<String>,
    /// Of `/proc/PID/status`, and the limit of its data.
    says: BTreeMap<String, String>,
    sockets: BTreeSet<u64>,
}

impl Process {
    fn is(&self, program: &str) -> bool {
        let mut words = program.trim_matches('`').split(' ');
        let first = self.command.first().map_or("", |first| first.rsplit('/').next().unwrap());
        words.next() == Some(first) && words.all(|word| self.command.iter().any(|there| there == word))
    }

    fn parent(&self) -> u32 {
        self.says["PPid"].parse().unwrap()
    }
}

/// Everything that is no kernel thread.
const PROCESSES: &str = r#"
for p in /proc/[0-9]*; do
  c=$(tr '\0' ' ' 2>/dev/null <$p/cmdline)
  [ -n "$c" ] || continue
  echo "process ${p#/proc/} $c"
  grep -E '^(PPid|Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' $p/status
  sed -n 's/^Max data size  *\([^ ]*\) .*/Data:\1/p' $p/limits
  ls -l $p/fd 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]/socket \1/p'
done
true
"#;

fn processes(shell: &Shell) -> Vec<Process> {
    let said = shell.run(PROCESSES).unwrap();
    let mut found: Vec<Process> = Vec::new();
    for line in said.lines() {
        if let Some(rest) = line.strip_prefix("process ") {
            let mut words = rest.split_whitespace().map(str::to_owned);
            let pid = words.next().unwrap().parse().unwrap();
            found.push(Process { pid, command: words.collect(), ..Process::default() });
        } else if let Some(inode) = line.strip_prefix("socket ") {
            found.last_mut().unwrap().sockets.insert(inode.parse().unwrap());
        } else if let Some((key, value)) = line.split_once(':') {
            found.last_mut().unwrap().says.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    // One that ended while it was looked at says nothing of itself.
    found.retain(|process| process.says.contains_key("Seccomp") && process.says.contains_key("Data"));
    found
}

/// What a row says of a process, and what the process is, as lines that can be compared.
fn written(row: &BTreeMap<&str, &str>, is_helper: bool, all: u64) -> Vec<String> {
    // Root with all that root may; `host` is root and gives up what it does not need.
    let is_root = row["capabilities"] == "all";
    let mask = match row["capabilities"] {
        "all" => all,
        "none" => 0,
        names => names
            .split(", ")
            .map(|name| 1 << CAPABILITIES.iter().find(|(known, _)| *known == name).unwrap().1)
            .sum(),
    };
    let data = match row["data limit"] {
        "none" => "unlimited".to_owned(),
        text => {
            let (number, unit) = text.split_once(' ').unwrap();
            let unit = if unit == "GiB" { 1024.0 } else { 1.0 };
            ((number.parse::<f64>().unwrap() * unit) as u64 * (1 << 20)).to_string()
        }
    };
    let mut lines = vec![format!("user {}", row["user"]), format!("data {data}")];
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        lines.push(format!("{set} {mask:016x}"));
    }
    lines.push(format!("NoNewPrivs {}", u8::from(!is_root)));
    lines.push(format!("Seccomp {}", if row["service"] == "`ntp`" && !is_helper { 2 } else { 0 }));
    let (group, groups) = if is_root { ("0", "") } else { (GROUP, GROUP) };
    lines.extend([format!("group {group}"), format!("groups {groups}")]);
    lines
}

fn seen(process: &Process) -> Vec<String> {
    let says = |key: &str| process.says[key].clone();
    let all_four = |key: &str| {
        let ids = says(key);
        let ids: BTreeSet<&str> = ids.split_whitespace().collect();
        ids.into_iter().collect::<Vec<_>>().join(" ")
    };
    let mut lines = vec![format!("user {}", all_four("Uid")), format!("data {}", says("Data"))];
    lines.extend(
        ["CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"].map(|key| format!("{key} {}", says(key))),
    );
    lines.extend([format!("group {}", all_four("Gid")), format!("groups {}", says("Groups"))]);
    lines
}

/// A socket that something can come to, as a line: protocol, number, service, place.
type Listening = String;

/// Compares the box with the two tables, both ways.
pub(crate) fn compare(shell: &Shell) {
    let services = rows("## Services");
    let is_on = |row: &&BTreeMap<&str, &str>| !row["runs"].contains("dhcp");
    let processes = processes(shell);
    let of = |process: &Process| services.iter().find(|row| process.is(row["program"]));
    // Who is logged in is below the server: that is us.
    let server =
        processes.iter().find(|process| process.is("dropbear") && process.parent() == 1).unwrap().pid;
    let is_ours = |process: &Process| {
        let parent = |pid: u32| processes.iter().find(|process| process.pid == pid).map(Process::parent);
        let mut above = Some(process.parent());
        while let Some(pid) = above.filter(|pid| *pid > 1 && *pid != server) {
            above = parent(pid);
        }
        above == Some(server)
    };
    let all =
        u64::from_str_radix(&processes.iter().find(|process| process.pid == 1).unwrap().says["CapBnd"], 16)
            .unwrap();
    assert!(all.count_ones() > 38, "{all:x} is not every capability");
    let mut running = BTreeSet::new();
    for process in processes.iter().filter(|process| !is_ours(process)) {
        let row = of(process);
        let row = row.unwrap_or_else(|| panic!("no row of rootfs/README.md is {:?}", process.command));
        // chrony's, for names, has no filter of its own.
        let parent = processes.iter().find(|other| other.pid == process.parent());
        let is_helper = row["service"] == "`ntp`" && parent.is_some_and(|parent| parent.is(row["program"]));
        let (seen, written) = (seen(process), written(row, is_helper, all));
        assert_eq!(seen, written, "{}: seen, and written in rootfs/README.md", row["service"]);
        assert!(is_helper || running.insert(row["service"]), "{} runs twice", row["service"]);
    }
    let wanted: BTreeSet<&str> = services.iter().filter(is_on).map(|row| row["service"]).collect();
    assert_eq!(running, wanted, "what runs, and what rootfs/README.md says runs");

    let owner = |inode: u64| -> String {
        let holders = processes.iter().filter(|process| process.sockets.contains(&inode));
        // The supervisor holds what it passes on.
        let holders = holders.filter_map(of).map(|row| row["service"].trim_matches('`'));
        let holders: BTreeSet<&str> = holders.filter(|service| *service != "supervisor").collect();
        holders.into_iter().collect::<Vec<_>>().join("+")
    };
    let mut listening = listening(shell, owner);
    let mut written: Vec<Listening> = ports().collect();
    listening.sort();
    written.sort();
    assert_eq!(listening, written, "what listens, and what rootfs/README.md says listens");
}

/// The demo's rack with no node enrolled: which of its networks a row is about.
fn places(on: &str) -> &'static [&'static str] {
    match on {
        "the uplink" => &["uplink"],
        "provisioning networks" => &["prov"],
        "networks with Kiln's DHCP" => &["prov", "tenant-1", "tenant-2", "quarantine"],
        "networks of volumes" => &[],
        other => panic!("rootfs/README.md: nobody knows where '{other}' is"),
    }
}

fn ports() -> impl Iterator<Item = Listening> {
    let rows = rows("## Ports").into_iter().filter(|row| !row["when"].contains("dhcp"));
    rows.flat_map(|row| {
        let service = row["service"].trim_matches('`');
        places(row["on"]).iter().map(move |place| {
            // Bound to an interface, not to an address: broadcasts are to come.
            let place = if (row["protocol"], row["number"]) == ("UDP", "67") { "any" } else { place };
            format!("{} {} {service} {place}", row["protocol"], row["number"])
        })
    })
}

/// The TCP ports that are open on the leg of this name.
pub(crate) fn tcp(place: &str) -> Vec<u16> {
    let ports = ports().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0] == "TCP" && words[3] == place).then(|| words[1].parse().unwrap())
    });
    let ports: BTreeSet<u16> = ports.collect();
    ports.into_iter().collect()
}

/// The box's address on each of its legs.
pub(crate) const LEGS: [(&str, Ipv4Addr); 6] = [
    ("uplink", UPLINK),
    ("oob", Ipv4Addr::new(10, 8, 0, 1)),
    ("prov", Ipv4Addr::new(10, 7, 0, 1)),
    ("tenant-1", Ipv4Addr::new(10, 21, 0, 1)),
    ("tenant-2", Ipv4Addr::new(10, 22, 0, 1)),
    ("quarantine", Ipv4Addr::new(10, 66, 0, 1)),
];

const SOCKETS: &str = r"
for i in /sys/class/net/*; do [ -e $i/ifindex ] && echo interface $(cat $i/ifindex) ${i##*/}; done
for t in tcp tcp6 udp udp6 udplite udplite6 raw raw6 icmp icmp6 packet; do
  [ -e /proc/net/$t ] || continue
  tail -n +2 /proc/net/$t | sed s/^/$t\ /
done
";

fn listening(shell: &Shell, owner: impl Fn(u64) -> String) -> Vec<Listening> {
    let said = shell.run(SOCKETS).unwrap();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let interface = |number: &str| {
        let found = lines.iter().find(|words| words[0] == "interface" && words[1] == number);
        found.map_or("any", |words| words[2]).to_owned()
    };
    let mut found = Vec::new();
    for words in &lines {
        match words[0] {
            "interface" => {}
            "packet" => {
                let kind = if words[4] == "0003" { "all" } else { words[4] };
                let owner = owner(words.last().unwrap().parse().unwrap());
                found.push(format!("packets {kind} {owner} {}", interface(words[5])));
            }
            table => {
                // A connection has another end; only who has none yet can be come to.
                let (local, remote) = (words[2], words[3]);
                let is_open =
                    if table.starts_with("tcp") { words[4] == "0A" } else { remote.ends_with(":0000") };
                if !is_open {
                    continue;
                }
                let (address, port) = local.split_once(':').unwrap();
                let address =
                    u32::from_str_radix(address, 16).map(|bits| Ipv4Addr::from_bits(bits.swap_bytes()));
                let place = match address {
                    Ok(Ipv4Addr::UNSPECIFIED) => "any".to_owned(),
                    Ok(address) => LEGS
                        .iter()
                        .find(|(_, leg)| *leg == address)
                        .map_or(address.to_string(), |(name, _)| (*name).to_owned()),
                    Err(_) => local.to_owned(),
                };
                let port = u16::from_str_radix(port, 16).unwrap();
                let owner = owner(words[10].parse().unwrap());
                found.push(format!("{} {port} {owner} {place}", table.to_uppercase()));
            }
        }
    }
    found
}

#[test]
fn the_tables_can_be_read() {
    assert!(rows("## Services").len() > 10);
    assert_eq!(tcp("uplink"), [22, 8080]);
    assert_eq!(tcp("prov"), [80]);
    assert_eq!(tcp("oob"), [0_u16; 0]);
}
