//! Octets from the page cache over loopback: `bootd http` beside other servers, in the same run.
//!
//!     cargo bench --profile dev -p bootd --bench http
//!
//! A line for each server and load: throughput, the server's CPU seconds per GB, and both as ratios to
//! Python's http.server. A peer that is not installed is left out, by name.

use boot::{Device, HttpAsset, HttpPlan, Secret, Session};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SIZE: usize = 512 << 20;
const ROUNDS: usize = 3;
const SMALL: usize = 2000;

struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours, and ends with the bench whatever it does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// User and system time so far, from proc(5).
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |field: usize| {
            after.split_whitespace().nth(field - 3).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0)
        };
        // Its own, and its children's that it waited for.
        (ticks(14) + ticks(15) + ticks(16) + ticks(17)) / 100.0
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

fn start(name: &'static str, address: SocketAddr, command: &mut Command) -> Option<Server> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else {
        println!("{name}: not installed, left out");
        return None;
    };
    let mut server = Server { name, child, address };
    let deadline = now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        if now() > deadline || !matches!(server.child.try_wait(), Ok(None)) {
            println!("{name}: does not serve here, left out");
            return None;
        }
        std::thread::yield_now();
    }
    Some(server)
}

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Asks for a path on a new connection and reads the answer; gives the octets of its body.
fn fetch(address: SocketAddr, path: &str, into: &mut [u8]) -> usize {
    let mut stream = TcpStream::connect(address).expect("the server was there a moment ago");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request fits into a socket");
    let mut head = Vec::new();
    let body = loop {
        let count = stream.read(into).expect("the server answers");
        head.extend_from_slice(&into[..count]);
        if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break head.len() - at - 4;
        }
        assert!(count > 0, "no answer to {path}");
    };
    assert!(head.starts_with(b"HTTP/1.") && head[8..].starts_with(b" 200"), "{path}: not 200");
    let mut all = body;
    loop {
        match stream.read(into).expect("the server goes on") {
            0 => return all,
            count => all += count,
        }
    }
}

struct Load {
    name: &'static str,
    clients: usize,
    requests: usize,
    octets: usize,
}

const LOADS: [Load; 3] = [
    Load { name: "1 client", clients: 1, requests: 1, octets: SIZE },
    Load { name: "4 clients", clients: 4, requests: 1, octets: SIZE },
    Load { name: "4 KiB files", clients: 2, requests: SMALL, octets: 4096 },
];

/// Gives MB/s (or requests/s for small files) and CPU seconds per GB (per 10000 requests), the median of the rounds.
fn measure(server: &Server, load: &Load, path: &str) -> (f64, f64) {
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let (began, cpu) = (now(), server.cpu());
            std::thread::scope(|scope| {
                for _ in 0..load.clients {
                    scope.spawn(|| {
                        let mut buffer = vec![0; 1 << 20];
                        for _ in 0..load.requests {
                            assert_eq!(
                                fetch(server.address, path, &mut buffer),
                                load.octets,
                                "{}",
                                server.name
                            );
                        }
                    });
                }
            });
            let (wall, cpu) = (now().duration_since(began).as_secs_f64(), server.cpu() - cpu);
            let requests = (load.clients * load.requests) as f64;
            if load.requests > 1 {
                (requests / wall, cpu / requests * 1e4)
            } else {
                let octets = requests * load.octets as f64;
                (octets / wall / 1e6, cpu / octets * 1e9)
            }
        })
        .collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    rounds[ROUNDS / 2]
}

fn noise(path: &Path) {
    let mut file = File::create(path).expect("the temporary directory takes files");
    let mut chunk: Vec<u8> = vec![0; 1 << 20];
    for number in 0..SIZE >> 20 {
        for (at, octet) in chunk.iter_mut().enumerate() {
            *octet = (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ number as u8;
        }
        chunk[..8].copy_from_slice(&(number as u64).to_le_bytes());
        file.write_all(&chunk).expect("the temporary directory has room");
    }
}

fn bootd(directory: &Path) -> (Option<Server>, String) {
    let library = bootd::library::Library::new(directory.join("images"));
    let disk = File::open(directory.join("big")).expect("it was just written");
    let imported = library.import(disk, &image::Terms::default(), &mut |_| {}).expect("noise is an image");
    let address = free_address();
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let plan = HttpPlan {
        listen: vec![(address, None::<Device>)],
        assets: ["big", "small"].map(|n| HttpAsset { path: format!("/{n}"), file: file(n) }).to_vec(),
        images: Some(file("images")),
        sessions: vec![Session {
            attempt: "bench-1".parse().expect("it is an attempt"),
            token: Secret::new("bench"),
            order: None,
            images: vec![imported.id],
            config_drive: None,
        }],
        ..HttpPlan::default()
    };
    let path = directory.join("plan.json");
    fs::write(&path, serde_json::to_vec(&plan).expect("a plan has a JSON form")).expect("there is room");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootd"));
    (
        start("bootd http", address, command.args(["http", "--plan"]).arg(path)),
        format!("/image/{}", imported.id),
    )
}

fn nginx(directory: &Path) -> Option<Server> {
    let (address, root) = (free_address(), directory.display());
    // Debian's places for bodies of requests exist only where its package is installed.
    let bodies =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|n| format!("{n}_temp_path {root}/{n};"));
    let configuration = format!(
        "daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.err; events {{}}\n\
         http {{ access_log off; sendfile on; {} server {{ listen {address}; root {root}; }} }}\n",
        bodies.join(" ")
    );
    let path = directory.join("nginx.conf");
    fs::write(&path, configuration).expect("there is room");
    // One process serves, so that its CPU time is all there is.
    start("nginx", address, Command::new("nginx").arg("-c").arg(path).args(["-g", "master_process off;"]))
}

fn main() {
    let directory: PathBuf = std::env::temp_dir().join(format!("kiln-http-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the temporary directory takes directories");
    noise(&directory.join("big"));
    fs::write(directory.join("small"), vec![7; 4096]).expect("there is room");
    let (python, busybox) = (free_address(), free_address());
    let (ours, image) = bootd(&directory);
    let mut servers = vec![start(
        "python http.server",
        python,
        Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1"])
            .arg(python.port().to_string())
            .current_dir(&directory),
    )];
    servers.push(start(
        "busybox httpd",
        busybox,
        Command::new("busybox").args(["httpd", "-f", "-p", &busybox.to_string(), "-h"]).arg(&directory),
    ));
    servers.push(nginx(&directory));
    servers.push(ours);
    println!(
        "{:<20} {:<12} {:>10} {:>10} {:>8} {:>8}",
        "server", "load", "MB/s", "CPU s/GB", "x speed", "x CPU"
    );
    println!("{:<20} {:<12} {:>10} {:>10}", "", "(small)", "requests/s", "s/10k");
    for load in &LOADS {
        let mut base = None;
        for server in servers.iter().flatten() {
            let file = if load.requests > 1 { "/small" } else { "/big" };
            let mut paths = vec![(load.name, file)];
            if server.name == "bootd http" && load.requests == 1 {
                paths.push(("… image", &image));
            }
            for (name, path) in paths {
                let (speed, cpu) = measure(server, load, path);
                let (base_speed, base_cpu) = *base.get_or_insert((speed, cpu));
                // A server that forks and does not wait for its children hides what they used.
                let known = |text: String| if cpu < 0.01 { "?".to_owned() } else { text };
                let (cost, ratio) = (known(format!("{cpu:.2}")), known(format!("{:.2}", cpu / base_cpu)));
                let faster = speed / base_speed;
                println!("{:<20} {name:<12} {speed:>10.0} {cost:>10} {faster:>8.2} {ratio:>8}", server.name);
            }
        }
    }
    drop(servers);
    if let Err(error) = fs::remove_dir_all(&directory) {
        println!("{} stays: {error}", directory.display());
    }
}
