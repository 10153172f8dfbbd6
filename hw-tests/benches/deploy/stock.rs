//! The same node deployed with stock parts: dnsmasq, busybox (httpd; wget, dd in a ramdisk), ipmitool,
//! ovs-vsctl. dnsmasq is told what makes iPXE fast: router advertisements and iPXE's option 176
//! (no ProxyDHCP wait); without them iPXE alone waits for 16 seconds.

mod ramdisk;

use crate::material::Material;
use crate::{NODE, PATIENCE, PHASES, Phases, TENANT, clock, wire};
use anyhow::{Context as _, Result, ensure};
use boot::{HttpAsset, HttpPlan};
use hw_tests::artifact::command::{run, tool};
use hw_tests::artifact::debian::Mirror;
use hw_tests::artifact::{Workshop, ramdisk as ours};
use hw_tests::rack::{Description, Network, Node, Purpose, VirtualRack, Vlan, until};
use sansio::Time;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where our HTTP hand serves the image's data for the stock ramdisk to fetch.
const OURS: u16 = 8081;

/// One deployment with stock parts, and what its ramdisk writes by itself.
#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) phases: Phases,
    /// From the ramdisk's first line to its first report.
    pub(crate) hello: Duration,
    /// `wget | dd conv=fsync` of the image's data from our HTTP hand, several times.
    pub(crate) from_bootd: Vec<Duration>,
    /// The same from busybox httpd.
    pub(crate) from_httpd: Vec<Duration>,
}

/// Deploys the node once on a rack of its own, then measures writing.
pub(crate) fn deployed(description: &Description, directory: &Path, material: &Material) -> Result<Stock> {
    let bench = Bench::set_up(description, directory, material)?;
    let (phases, hello) = bench.deploy()?;
    let (from_bootd, from_httpd) = bench.measure()?;
    Ok(Stock { phases, hello, from_bootd, from_httpd })
}

fn provisioning(description: &Description) -> Result<&Network> {
    description.networks_for(Purpose::Provisioning).next().context("the rack has no provisioning network")
}

/// The services of a stock deployment; ended when dropped.
struct Bench {
    services: Vec<Child>,
    home: PathBuf,
    appliance: Ipv4Addr,
    node: Node,
    provisioning: String,
    tenant: String,
    switch: String,
    image: PathBuf,
    rack: VirtualRack,
}

impl Bench {
    fn set_up(description: &Description, directory: &Path, material: &Material) -> Result<Bench> {
        let rack = VirtualRack::raise(description, directory)?;
        let home = rack.directory().join("stock");
        let _ = fs::remove_dir_all(&home);
        let root = home.join("www");
        fs::create_dir_all(&root)?;
        let workshop = Workshop::open()?;
        let mirror = Mirror::open(&workshop)?;
        let busybox = mirror.tree(&mirror.package("busybox-static")?)?.join("bin/busybox");
        let kernel = ours::kernel(&workshop)?;
        ramdisk::write(&kernel, &busybox, &root.join("initramfs"))?;
        fs::copy(&kernel.image, root.join("kernel"))?;
        for (from, name) in [(&material.image, "image"), (&material.data, "data")] {
            std::os::unix::fs::symlink(from, root.join(name))?;
        }
        fs::write(root.join("hello"), "")?;
        let provisioning = provisioning(description)?;
        let vlan = |vlan: Option<Vlan>| vlan.map(|v| v.to_string()).context("a network without a VLAN");
        let switch = description.switches.first().context("no switch")?.address;
        let mut bench = Bench {
            services: Vec::new(),
            appliance: provisioning.subnet.address,
            node: description.node(NODE)?.clone(),
            provisioning: vlan(provisioning.vlan)?,
            tenant: vlan(description.network(TENANT)?.vlan)?,
            switch: format!("--db=tcp:{}:{}", switch.ip(), switch.port()),
            image: material.image.clone(),
            home,
            rack,
        };
        bench.serve(&busybox, &root, material)?;
        Ok(bench)
    }

    fn serve(&mut self, busybox: &Path, root: &Path, material: &Material) -> Result<()> {
        let address = self.appliance;
        let kiln = self.rack.kiln().clone();
        // Only a network with an IPv6 prefix is advertised.
        let description = self.rack.description().clone();
        let provisioning = provisioning(&description)?;
        let device = provisioning.name.as_str();
        kiln.run(Command::new("ip").args(["addr", "add", "fd07::1/64", "dev", device, "nodad"]))?;
        let boot = format!(
            "enable-ra\ndhcp-range=fd07::,ra-only\ndhcp-match=set:ipxe,175\n\
             dhcp-option-force=tag:ipxe,encap:175,176,1b\n\
             dhcp-boot=tag:ipxe,http://{address}/boot.ipxe\n"
        );
        self.dnsmasq(provisioning, &boot)?;
        self.dnsmasq(description.network(TENANT)?, "")?;
        let mut httpd = Command::new(busybox);
        httpd.args(["httpd", "-f", "-vv", "-p", &format!("{address}:80"), "-h"]).arg(root);
        self.start("httpd", &mut httpd)?;
        let plan = HttpPlan {
            listen: vec![(SocketAddr::new(address.into(), OURS), None)],
            assets: vec![HttpAsset { path: "/data".to_owned(), file: material.data.display().to_string() }],
            ..HttpPlan::default()
        };
        let file = self.home.join("plan.json");
        fs::write(&file, serde_json::to_vec(&plan)?)?;
        self.start("bootd", Command::new(crate::program("bootd")?).args(["http", "--plan"]).arg(file))?;
        for port in [80, OURS] {
            let what = format!("the HTTP server on port {port}");
            until(Duration::from_secs(20), &what, || {
                let open = || std::net::TcpStream::connect(SocketAddr::new(address.into(), port)).is_ok();
                Ok(kiln.inside(open)?.then_some(()))
            })?;
        }
        Ok(())
    }

    fn dnsmasq(&mut self, network: &Network, more: &str) -> Result<()> {
        let name = &network.name;
        let pool = network.pool.with_context(|| format!("{name} has no pool"))?;
        let text = format!(
            "port=0\nuser=root\nbind-interfaces\ninterface={name}\nexcept-interface=lo\nno-ping\n\
             dhcp-authoritative\ndhcp-leasefile={}\ndhcp-range={},{},1h\n{more}",
            self.leases(name.as_str()).display(),
            pool.first,
            pool.last
        );
        let file = self.home.join(format!("dnsmasq-{name}.conf"));
        fs::write(&file, text)?;
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.arg("-C").arg(file).args(["-k", "--pid-file=", "--log-facility=-"]);
        self.start(&format!("dnsmasq-{name}"), &mut dnsmasq)
    }

    fn leases(&self, network: &str) -> PathBuf {
        self.home.join(format!("leases-{network}"))
    }

    fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log = File::create(self.log(name))?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.services.push(self.rack.kiln().spawn(command)?);
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.home.join(format!("{name}.log"))
    }

    /// What iPXE runs.
    fn script(&self, task: &str) -> Result<()> {
        let url = format!("http://{}", self.appliance);
        let text = format!(
            "#!ipxe\nkernel {url}/kernel initrd=initramfs console=ttyS0 quiet no_timer_check panic=5 \
             stock.url={url} stock.other={url}:{OURS} stock.task={task}\ninitrd {url}/initramfs\nboot\n"
        );
        fs::write(self.home.join("www/boot.ipxe"), text).context("cannot write the boot script")
    }

    fn ipmi(&self, words: &str) -> Result<String> {
        let bmc = &self.node.bmc;
        let mut ipmitool = Command::new("ipmitool");
        ipmitool.args(["-I", "lanplus", "-C", "3", "-N", "3", "-R", "3", "-H", &bmc.address.to_string()]);
        ipmitool.args(["-U", &bmc.user, "-P", bmc.password.expose()]).args(words.split(' '));
        self.rack.kiln().run(&mut ipmitool)
    }

    fn power_off(&self) -> Result<()> {
        if self.ipmi("chassis power status")?.contains("is on") {
            self.ipmi("chassis power off")?;
            until(PATIENCE, "the node to be off", || {
                Ok(self.ipmi("chassis power status")?.contains("is off").then_some(()))
            })?;
        }
        Ok(())
    }

    fn power_on(&self, device: &str) -> Result<()> {
        self.ipmi(&format!("chassis bootdev {device}"))?;
        self.ipmi("chassis power on").map(drop)
    }

    fn vlan(&self, vlan: &str) -> Result<()> {
        let port = &self.node.port.switch_port;
        let mut vsctl = Command::new("ovs-vsctl");
        vsctl.args([&self.switch, "--timeout=20", "set", "port", port.as_str(), &format!("tag={vlan}")]);
        self.rack.kiln().run(&mut vsctl).map(drop)
    }

    /// Waits until httpd was asked for a path that begins so; returns what it was asked for since a place
    /// in its log.
    fn asked(&self, path: &str, after: usize) -> Result<String> {
        let what = format!("the node to ask for {path}");
        until(PATIENCE, &what, || {
            let log = fs::read(self.log("httpd")).unwrap_or_default();
            let said = String::from_utf8_lossy(log.get(after..).unwrap_or_default()).into_owned();
            Ok(said.contains(&format!("url:{path}")).then_some(said))
        })
        .with_context(|| format!("logs are in {}", self.home.display()))
    }

    fn log_length(&self) -> usize {
        fs::read(self.log("httpd")).map_or(0, |log| log.len())
    }

    fn deploy(&self) -> Result<(Phases, Duration)> {
        self.script("deploy")?;
        let wire = self.rack.capture(TENANT)?;
        let mark = self.rack.console_mark(NODE)?;
        let mut moments: Vec<Time> = vec![clock::now()];
        let mut done = || moments.push(clock::now());
        self.power_off()?;
        self.vlan(&self.provisioning)?;
        done();
        self.power_on("pxe")?;
        self.asked("/boot.ipxe", 0)?;
        done();
        self.rack.wait_console(NODE, mark, "stock ramdisk up", PATIENCE)?;
        let up = clock::now();
        self.asked("/hello", 0)?;
        done();
        self.asked("/done/whole", 0)?;
        done();
        self.power_off()?;
        self.vlan(&self.tenant)?;
        done();
        self.power_on("disk")?;
        ensure!(self.ipmi("chassis power status")?.contains("is on"), "the node is not on");
        done();
        let mac = self.node.port.mac.to_string();
        until(PATIENCE, "the tenant's lease", || {
            let leases = fs::read_to_string(self.leases(TENANT)).unwrap_or_default();
            Ok(leases.contains(&mac).then_some(()))
        })?;
        moments.push(wire::acknowledged(&wire)?);
        let size = fs::metadata(&self.image)?.len().to_string();
        let disk = self.rack.disk(NODE)?;
        run(tool("cmp").args(["-n", &size]).arg(&self.image).arg(disk)).context("the disk differs")?;
        let hello = moments.get(3).copied().unwrap_or_default().since(up);
        let mut phases = Phases::default();
        for (phase, pair) in PHASES.iter().zip(moments.windows(2)) {
            phases.insert(*phase, pair[1].since(pair[0]));
        }
        Ok((phases, hello))
    }

    /// The stock ramdisk writes the image's data, fetched from our HTTP hand and from its own server.
    fn measure(&self) -> Result<(Vec<Duration>, Vec<Duration>)> {
        self.script("measure")?;
        self.power_off()?;
        self.vlan(&self.provisioning)?;
        let after = self.log_length();
        self.power_on("pxe")?;
        let said = self.asked("/measured/all", after)?;
        self.power_off()?;
        let taken = |from: &str| -> Result<Vec<Duration>> {
            let begins = format!("url:/measured/{from}/");
            let reports = said.lines().filter_map(|line| line.split_once(&begins)?.1.trim().split_once('/'));
            let whole = reports.filter(|(_, end)| *end == "whole");
            let taken: Vec<Duration> = whole
                .filter_map(|(hundredths, _)| {
                    Some(Duration::from_millis(hundredths.parse::<u64>().ok()? * 10))
                })
                .collect();
            ensure!(taken.len() == 2, "the stock ramdisk did not write all the data twice: {said}");
            Ok(taken)
        };
        Ok((taken("other")?, taken("own")?))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for service in &mut self.services {
            // It may have ended; then there is nothing to end.
            let _ = service.kill().and_then(|()| service.wait());
        }
    }
}
