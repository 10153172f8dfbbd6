//! Makes the deploy ramdisk: `ramdisk AGENT OUT-DIR`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use hw_tests::artifact::kernel::KernelTree;
use hw_tests::artifact::{Workshop, ramdisk};

/// Make the kernel and the initramfs that a node boots to be deployed
#[derive(Parser)]
struct Arguments {
    /// The agent: a static program
    agent: PathBuf,
    /// The folder for `kernel` and `initramfs`
    out_dir: PathBuf,
    /// An unpacked kernel package to take instead of the mirror's
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Cargo's target folder, where packages are kept [default: the workspace's]
    #[arg(long)]
    target: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kernel = match (&arguments.kernel, &arguments.target) {
        (Some(tree), _) => {
            KernelTree::index(tree)?;
            KernelTree::open(tree)?
        }
        (None, Some(target)) => ramdisk::kernel(&Workshop::at(target)?)?,
        (None, None) => ramdisk::kernel(&Workshop::open()?)?,
    };
    let ramdisk = ramdisk::build(&kernel, &arguments.agent, &arguments.out_dir)?;
    let (kernel_size, initramfs_size) = ramdisk.sizes()?;
    if !ramdisk.absent.is_empty() {
        println!("this kernel lacks {}", ramdisk.absent.join(", "));
    }
    println!(
        "{} {}: {}, {} modules; kernel {kernel_size} + initramfs {initramfs_size} = {} octets (at most {})",
        if ramdisk.fresh { "made" } else { "nothing to do:" },
        arguments.out_dir.display(),
        ramdisk.release,
        ramdisk.modules,
        kernel_size + initramfs_size,
        ramdisk::BOUND
    );
    Ok(())
}
