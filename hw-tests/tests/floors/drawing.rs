//! The picture of the house, computed.

use crate::house::House;

/// What a floor is called, from the ground up.
const FLOORS: [&str; 8] = [
    "words",
    "rules (pure)",
    "rules (pure)",
    "hands (I/O begins here)",
    "head",
    "head",
    "doors (binaries)",
    "the roof",
];

/// Stands before the picture in README.md.
pub(crate) const BEGIN: &str =
    "<!-- floors: computed; UPDATE_README=1 cargo test -p hw-tests --test floors -->";
/// Stands behind it.
pub(crate) const END: &str = "<!-- end of floors -->";

/// Floors as rows, the appliance on the left, the boot services on the right.
pub(crate) fn drawing(house: &House) -> String {
    let highest = house.members.iter().filter_map(|member| member.floor).max().unwrap_or(0);
    let rooms = |floor: i64, right: bool| {
        let here = house.members.iter().filter(|member| member.floor == Some(floor));
        let mut names: Vec<&str> = here
            .filter(|member| member.directory.starts_with("boot-services/") == right)
            .map(|member| member.name.as_str())
            .collect();
        names.sort_unstable();
        names.join("  ")
    };
    let rows: Vec<(i64, String, String)> =
        (0..=highest).rev().map(|floor| (floor, rooms(floor, false), rooms(floor, true))).collect();
    let left = rows.iter().map(|(_, rooms, _)| rooms.len()).max().unwrap_or(0).max("appliance".len());
    let right = rows.iter().map(|(_, _, rooms)| rooms.len()).max().unwrap_or(0).max("boot-services".len());
    let mut out = String::from("```text\n");
    for (floor, of_appliance, of_boot_services) in &rows {
        let word = usize::try_from(*floor).ok().and_then(|at| FLOORS.get(at)).unwrap_or(&"");
        out += &format!("{floor}  {of_appliance:left$}   {of_boot_services:right$}   {word}\n");
    }
    let line = |name: &str, width: usize| format!("{name} {}", "─".repeat(width - name.len()));
    out += &format!("   {}  {}\n```\n", line("appliance", left), line("boot-services", right));
    out
}

/// What stands between the two markers.
pub(crate) fn between(text: &str) -> Option<&str> {
    let (_, after) = text.split_once(BEGIN)?;
    let (inside, _) = after.split_once(END)?;
    Some(inside.trim_start_matches('\n'))
}

/// The text with what stands between the two markers replaced.
pub(crate) fn redrawn(text: &str, drawing: &str) -> Option<String> {
    let (before, after) = text.split_once(BEGIN)?;
    let (_, after) = after.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{drawing}{END}{after}"))
}
