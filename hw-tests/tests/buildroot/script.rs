//! The shell scripts.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::tree::{HERE, Tree};

/// Executable, stopped by the first error, clean.
pub(crate) fn scripts_are_sound(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, file) in tree.files.iter().filter(|(path, _)| path.starts_with(HERE)) {
        if !file.text.starts_with("#!") && !path.ends_with(".sh") {
            continue;
        }
        if !file.text.starts_with("#!/usr/bin/env bash\n") {
            faults.push(format!("{path} does not begin with #!/usr/bin/env bash"));
        }
        if !file.executable {
            faults.push(format!("{path} is not executable"));
        }
        if !file.text.lines().any(|line| line == "set -euo pipefail") {
            faults.push(format!("{path} goes on after an error: no set -euo pipefail"));
        }
        faults.extend(shellcheck(path, &file.text));
    }
    for (architecture, text) in tree.defconfigs() {
        for name in ["post-build", "post-image"] {
            let script = format!("board/kiln/{name}.sh\"");
            if !text.contains(&script) {
                faults.push(format!("the defconfig for {architecture} does not run {name}.sh"));
            }
        }
    }
    faults
}

/// What shellcheck says, where there is one.
fn shellcheck(path: &str, text: &str) -> Vec<String> {
    let mut command = Command::new("shellcheck");
    command.args(["--norc", "--format=gcc", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return Vec::new() };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    String::from_utf8_lossy(&said).lines().map(|line| format!("{path}: {line}")).collect()
}
