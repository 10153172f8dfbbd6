use crate::config::{Config, Ntp};
use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use supervisor::{Capability, Privilege, Service, Socket};

/// Who the services are, by their distance from the first user id. Never renumbered: directories of older
/// releases belong to them.
#[derive(Clone, Copy)]
enum User {
    Control,
    Dhcp,
    Tftp,
    Http,
    Power,
    Switch,
    Iscsi,
    Ntp,
}

/// What writing a slot takes: RAUC mounts the bundle and makes it its own, the firmware is told which slot it starts
/// once (efivarfs holds its files against being changed), and init is told to restart.
const HOST: [Capability; 7] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_LEASE,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_KILL,
];

/// Makes the directories, and the table of services. As root every service gets its own user and only the
/// capabilities it needs; otherwise all run as we do, and the boot services will say what they cannot.
pub(crate) fn prepare(config: &Config, config_path: &Path) -> Result<Vec<Service>> {
    let first = config.appliance.first_user;
    let root = Uid::effective().is_root();
    let id = |user: User| first + user as u32;
    let owner = |user: User| root.then(|| (id(user), first));
    let directory = |path: &Path, user: User, mode: u32| -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the directory {}", path.display()))?;
        own(path, owner(user), mode)
    };
    for shared in [&config.appliance.data, &config.appliance.run] {
        fs::create_dir_all(shared)
            .with_context(|| format!("cannot make the directory {}", shared.display()))?;
        own(shared, root.then_some((0, first)), 0o750)?;
    }
    crate::restore::place(config, root.then_some((id(User::Iscsi), first)))?;
    directory(&config.restore(), User::Control, 0o700)?;
    directory(&config.store(), User::Control, 0o700)?;
    directory(&config.images(), User::Control, 0o750)?;
    directory(&config.volumes(), User::Iscsi, 0o750)?;
    directory(&config.drives(), User::Control, 0o750)?;
    directory(&config.logs(), User::Http, 0o750)?;
    make_token(&config.token(), owner(User::Control))?;
    show_box(config, owner(User::Control))?;

    let here = std::env::current_exe().context("cannot tell where applianced is")?;
    let beside = |program: &str| -> Result<PathBuf> {
        let path = here.with_file_name(program);
        anyhow::ensure!(
            path.exists(),
            "{} is missing: install all of Kiln's programs together",
            path.display()
        );
        Ok(path)
    };
    let bootd = beside("bootd")?;
    let config_text =
        config_path.canonicalize().unwrap_or_else(|_| config_path.to_owned()).display().to_string();
    let privilege = |user: User, capabilities: &[Capability], memory: u64| {
        root.then(|| Privilege {
            user: id(user),
            group: first,
            capabilities: capabilities.to_vec(),
            memory: Some(memory << 20),
        })
    };
    let mut table = Vec::new();
    let raw = [Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];
    let low = [Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];
    let bound = [Capability::CAP_NET_RAW];
    for (name, user, capabilities, memory) in [
        ("dhcp", User::Dhcp, raw.as_slice(), 256),
        ("tftp", User::Tftp, low.as_slice(), 256),
        ("http", User::Http, low.as_slice(), 512),
        ("iscsi", User::Iscsi, bound.as_slice(), 1536),
    ] {
        let run_dir = config.appliance.run.join(name);
        directory(&run_dir, user, 0o700)?;
        table.push(Service {
            name,
            program: bootd.clone(),
            arguments: vec![
                name.into(),
                "--run-dir".into(),
                run_dir.display().to_string(),
                "--control-uid".into(),
                id(User::Control).to_string(),
            ],
            environment: Vec::new(),
            privilege: privilege(user, capabilities, memory),
            sockets: vec![Socket::Unix(config.socket(name), root.then_some((0, first)))],
            essential: true,
            may_start_all_anew: false,
        });
    }
    for (name, user) in [("power", User::Power), ("switch", User::Switch)] {
        directory(&config.appliance.run.join(name), user, 0o700)?;
        table.push(Service {
            name,
            program: here.clone(),
            arguments: vec!["--config".into(), config_text.clone(), name.into()],
            environment: Vec::new(),
            privilege: privilege(user, &[], 256),
            sockets: vec![Socket::Unix(config.socket(name), root.then_some((0, first)))],
            essential: true,
            may_start_all_anew: false,
        });
    }
    if config.appliance.image {
        directory(&config.bundles(), User::Control, 0o750)?;
        let run_dir = config.appliance.run.join("host");
        fs::create_dir_all(&run_dir).with_context(|| format!("cannot make {}", run_dir.display()))?;
        own(&run_dir, root.then_some((0, first)), 0o700)?;
        table.push(Service {
            name: "host",
            program: here.clone(),
            arguments: vec!["--config".into(), config_text.clone(), "host".into()],
            environment: Vec::new(),
            // Root, but no more of it than this.
            privilege: root.then(|| Privilege {
                user: 0,
                group: first,
                capabilities: HOST.to_vec(),
                memory: Some(256 << 20),
            }),
            essential: true,
            sockets: vec![Socket::Unix(config.socket("host"), root.then_some((0, first)))],
            may_start_all_anew: false,
        });
    }
    table.push(Service {
        name: "control",
        program: here.clone(),
        arguments: vec!["--config".into(), config_text, "control".into()],
        environment: Vec::new(),
        privilege: privilege(User::Control, &[], 1024),
        sockets: vec![Socket::Tcp(config.appliance.api)],
        essential: true,
        may_start_all_anew: true,
    });
    if let Some(ntp) = &config.ntp {
        let drift = config.appliance.data.join("ntp");
        directory(&drift, User::Ntp, 0o700)?;
        let run_dir = config.appliance.run.join("ntp");
        directory(&run_dir, User::Ntp, 0o700)?;
        // Of one that was killed; chrony would take a process of that number for another chrony.
        let _ = fs::remove_file(run_dir.join("pid"));
        table.push(Service {
            name: "ntp",
            program: ntp.program.clone(),
            arguments: chrony(ntp, &drift, &run_dir),
            environment: Vec::new(),
            privilege: privilege(User::Ntp, &[Capability::CAP_SYS_TIME], 64),
            sockets: Vec::new(),
            essential: false,
            may_start_all_anew: false,
        });
    }
    Ok(table)
}

/// chronyd(8), chrony.conf(5): a client and nothing else, behind its own filter of system calls, started without root's
/// rights. Its first measurements may set the clock; later ones slow it down or speed it up. It tells the kernel that
/// the clock is right, which keeps the hardware clock right then.
fn chrony(ntp: &Ntp, drift: &Path, run: &Path) -> Vec<String> {
    let fixed = ["-d", "-U", "-u", "kiln-ntp", "-F", "1", "-L", "1"];
    let directives = ["port 0", "cmdport 0", "bindcmdaddress /", "makestep 1 3", "rtcsync"];
    let mut words: Vec<String> = fixed.into_iter().chain(directives).map(str::to_owned).collect();
    words.extend(ntp.servers.iter().map(|server| format!("server {server} iburst")));
    words.push(format!("driftfile {}", drift.join("drift").display()));
    words.push(format!("pidfile {}", run.join("pid").display()));
    words
}

/// Sees to it that it is theirs. On a file system that can only be read it is as it is: the services that can do with
/// that start, and the others say what they lack.
fn own(path: &Path, owner: Option<(u32, u32)>, mode: u32) -> Result<()> {
    let failed = || format!("cannot set the owner and mode of {}", path.display());
    let meta = fs::metadata(path).with_context(failed)?;
    let set = || -> std::io::Result<()> {
        if let Some((user, group)) = owner.filter(|owner| *owner != (meta.uid(), meta.gid())) {
            chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        if meta.permissions().mode() & 0o7777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    match set() {
        Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            log::error!(path:% = path.display(); "file system can only be read, what is there is used as it is");
            Ok(())
        }
        done => done.with_context(failed),
    }
}

/// Control puts the box's configuration into a backup, and may not read the one that root keeps.
fn show_box(config: &Config, owner: Option<(u32, u32)>) -> Result<()> {
    let shown = config.box_shown();
    match fs::read(config.box_kept()) {
        Ok(text) => {
            fs::remove_file(&shown).ok();
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&shown);
            file.and_then(|mut file| file.write_all(&text))
                .with_context(|| format!("cannot write {}", shown.display()))?;
            own(&shown, owner, 0o600)
        }
        Err(_) => {
            fs::remove_file(&shown).ok();
            Ok(())
        }
    }
}

/// The API's token is made once in an appliance's life.
fn make_token(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    if !path.exists() {
        let mut random = [0; 24];
        fs::File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut random))
            .context("no randomness")?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let aside = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let written = file.and_then(|mut file| {
            writeln!(file, "{token}")?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&aside, path))
            .with_context(|| format!("cannot keep {}", path.display()))?;
    }
    own(path, owner, 0o600)
}
