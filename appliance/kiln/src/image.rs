use crate::Output;
use crate::client::Client;
use crate::show::{json, octets, table};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use control::ImageView;
use indicatif::{ProgressBar, ProgressStyle};
use rack::ImageName;
use std::fs::File;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum Image {
    /// Imports a disk image: raw, qcow2, or raw packed with gzip, xz or zstd.
    Import {
        /// What to call it.
        image: ImageName,
        /// The file.
        file: PathBuf,
        /// The file's SHA-256; without it nothing tells a damaged download.
        #[arg(long)]
        sha256: Option<String>,
    },
    /// All images.
    List,
    /// Forgets one, and removes what no other needs.
    Delete { image: ImageName },
}

pub(crate) fn run(client: &Client, output: Output, image: Image) -> Result<()> {
    match image {
        Image::Import { image, file, sha256 } => {
            let opened = File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let meta = opened.metadata().with_context(|| format!("cannot read {}", file.display()))?;
            if !meta.is_file() {
                bail!("{} is not a file", file.display());
            }
            let check = sha256.map(|sum| format!("?sha256={sum}")).unwrap_or_default();
            let bar =
                if output == Output::Table { ProgressBar::new(meta.len()) } else { ProgressBar::hidden() };
            let style = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_message(image.to_string());
            let record: ImageView =
                client.upload(&format!("/v1/images/{image}{check}"), bar.wrap_read(opened))?;
            bar.finish_and_clear();
            if output == Output::Json {
                return json(&record);
            }
            println!(
                "{image}: {} of disk, {} of data, sha256 {}",
                octets(record.size),
                octets(record.data),
                record.sha256
            );
            Ok(())
        }
        Image::List => {
            let images: Vec<ImageView> = client.get("/v1/images")?;
            if output == Output::Json {
                return json(&images);
            }
            let rows = images.iter().map(|image| {
                [
                    image.name.to_string(),
                    octets(image.size),
                    octets(image.data),
                    image.digest.to_string()[..16].to_owned(),
                ]
            });
            table(["IMAGE", "SIZE", "DATA", "DIGEST"], rows)
        }
        Image::Delete { image } => client.delete(&format!("/v1/images/{image}")),
    }
}
