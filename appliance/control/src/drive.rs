use core::fmt;
use serde_json::json;
use std::io::{self, Cursor, Write};

/// How large a config drive is: the smallest that FAT holds comfortably with 64 KiB of user data and more.
const SIZE: usize = 4 << 20;
/// The most user data there may be. What is larger belongs behind an `#include` URL.
pub(crate) const MOST_USER_DATA: usize = 1 << 20;

/// Why a config drive cannot be made.
#[derive(Debug)]
pub enum ConfigDriveError {
    /// More user data than fits.
    TooLarge {
        /// Octets given.
        size: usize,
    },
    /// The file system could not be written.
    Write(io::Error),
}

impl fmt::Display for ConfigDriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigDriveError::TooLarge { size } => write!(
                f,
                "the user data has {size} octets and may have {MOST_USER_DATA}: put the rest behind a URL and include it"
            ),
            ConfigDriveError::Write(_) => f.write_str("the config drive could not be made"),
        }
    }
}

impl std::error::Error for ConfigDriveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigDriveError::TooLarge { .. } => None,
            ConfigDriveError::Write(e) => Some(e),
        }
    }
}

/// A FAT file system labelled `config-2` with what cloud-init's ConfigDrive source reads: the same octets
/// for the same input.
pub fn config_drive(uuid: &str, hostname: &str, user_data: &[u8]) -> Result<Vec<u8>, ConfigDriveError> {
    if user_data.len() > MOST_USER_DATA {
        return Err(ConfigDriveError::TooLarge { size: user_data.len() });
    }
    write(uuid, hostname, user_data).map_err(ConfigDriveError::Write)
}

fn write(uuid: &str, hostname: &str, user_data: &[u8]) -> io::Result<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; SIZE]);
    let options = fatfs::FormatVolumeOptions::new().volume_label(*b"config-2   ").volume_id(0x4b49_4c4e);
    fatfs::format_volume(&mut disk, options)?;
    {
        let volume = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new())?;
        let latest = volume.root_dir().create_dir("openstack")?.create_dir("latest")?;
        let meta = json!({ "uuid": uuid, "hostname": hostname, "name": hostname });
        latest.create_file("meta_data.json")?.write_all(meta.to_string().as_bytes())?;
        latest.create_file("user_data")?.write_all(user_data)?;
    }
    Ok(disk.into_inner())
}
