//! Makes a user image: `user-image tiny OUT`, `user-image tiny-san OUT`, `user-image debian OUT`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hw_tests::artifact::format::{Format, converted};
use hw_tests::artifact::{Flavour, Workshop, san, system, tiny, workshop};

/// Make a user image that answers on port 80 with the name of the node it runs on
#[derive(Parser)]
struct Arguments {
    /// Which image
    image: Image,
    /// Where to put it [default: where it is kept; its path is printed]
    out: Option<PathBuf>,
    /// Its file format
    #[arg(long, value_enum, default_value = "raw")]
    format: Format,
    /// The kernel it boots
    #[arg(long, value_enum, default_value = "cloud")]
    kernel: Flavour,
    /// Cargo's target folder, where packages and artifacts are kept [default: the workspace's]
    #[arg(long)]
    target: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Image {
    /// busybox in memory; boots in seconds
    Tiny,
    /// the same with a root file system, on its disk or over iSCSI
    TinySan,
    /// Debian 12 with systemd and cloud-init
    Debian,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shop = match &arguments.target {
        Some(target) => Workshop::at(target)?,
        None => Workshop::open()?,
    };
    let raw = match arguments.image {
        Image::Tiny => tiny::image(&shop, arguments.kernel)?,
        Image::TinySan => san::image(&shop, arguments.kernel)?,
        Image::Debian => system::image(&shop, arguments.kernel)?,
    };
    let image = converted(&shop, &raw.path, arguments.format)?;
    let copied = match &arguments.out {
        Some(out) => workshop::deliver(&image.path, out)?,
        None => false,
    };
    let path = arguments.out.as_ref().unwrap_or(&image.path);
    let said = if raw.fresh || image.fresh {
        "made"
    } else if copied {
        "copied, made before:"
    } else {
        "nothing to do:"
    };
    println!("{said} {} ({} octets)", path.display(), std::fs::metadata(path)?.len());
    Ok(())
}
