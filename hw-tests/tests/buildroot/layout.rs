//! The image's layout, against the builder that works on Debian.

use hw_tests::artifact::appliance::disk::{PARTITIONS, Partition, SERIAL, guid};
use hw_tests::artifact::appliance::{BLOCK, BOUND, grub};

use crate::tree::Tree;

/// The types of partitions as identifiers, by sgdisk's words.
const KINDS: [(&str, &str); 3] = [
    ("ef02", "21686148-6449-6e6f-744e-656564454649"),
    ("ef00", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    ("8300", "0fc63daf-8483-4772-8e79-3d69d8477de4"),
];

/// The parts of a genimage configuration that begin with `word`: name, and the lines of the block.
fn blocks<'a>(text: &'a str, word: &'a str) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.trim().strip_prefix(word).and_then(|rest| rest.strip_suffix(" {")) else {
            continue;
        };
        let end = line.replace(line.trim(), "}");
        blocks.push((name.trim(), lines.by_ref().take_while(|line| **line != end).map(str::trim).collect()));
    }
    blocks
}

/// The same partitions at the same places. arm64 has no BIOS, and so no partition for it.
pub(crate) fn partitions_agree(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (architecture, _) in tree.defconfigs() {
        let file = format!("board/kiln/genimage-{architecture}.cfg");
        let text = tree.text(&file);
        let mut wanted = Vec::new();
        let mut begin = 1;
        for (number, Partition { name, mib, kind }) in (1..).zip(&PARTITIONS) {
            if architecture == "x86_64" || *kind != "ef02" {
                let kind = KINDS.iter().find(|(word, _)| word == kind).map_or("unknown", |(_, id)| id);
                let lines = [
                    format!("size = {mib}M"),
                    format!("offset = {begin}M"),
                    format!("partition-type-uuid = \"{kind}\""),
                    format!("partition-uuid = \"{}\"", guid(number)),
                ];
                wanted.push((*name, lines));
            }
            begin += mib;
        }
        let there = blocks(text, "partition ");
        let names = |(name, _): &(&str, Vec<&str>)| (*name).to_owned();
        let (has, wants): (Vec<_>, Vec<_>) =
            (there.iter().map(names).collect(), wanted.iter().map(|(name, _)| (*name).to_owned()).collect());
        if has != wants {
            faults.push(format!("{file} has the partitions {has:?}, the other builder {wants:?}"));
            continue;
        }
        for ((name, lines), (_, wanted)) in there.iter().zip(&wanted) {
            let lost = wanted.iter().filter(|line| !lines.contains(&line.as_str()));
            faults.extend(lost.map(|line| format!("{file}: the partition {name} lacks {line}")));
        }
        let esp = PARTITIONS.iter().find(|partition| partition.name == "esp").map_or(0, |esp| esp.mib);
        for line in [
            "partition-table-type = \"gpt\"".to_owned(),
            format!("disk-uuid = \"{}\"", guid(0)),
            format!("size = {esp}M"),
            format!("size = {}M", begin + 1),
            "label = \"KILN-ESP\"".to_owned(),
            format!("extraargs = \"--invariant -F 32 -s 1 -i {SERIAL:08x}\""),
        ] {
            if !text.lines().any(|there| there.trim() == line) {
                faults.push(format!("{file} lacks {line}"));
            }
        }
    }
    faults
}

/// The same modules of GRUB, the same first state, and what is changed of grub.cfg is there to be changed.
pub(crate) fn boot_loaders_agree(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let script = tree.text("board/kiln/post-image.sh");
    let modules = script.split_once("modules=(").and_then(|(_, rest)| rest.split_once(')'));
    let modules: Vec<&str> = modules.map_or(Vec::new(), |(list, _)| list.split_whitespace().collect());
    if modules != grub::MODULES {
        faults.push(format!("post-image.sh gives GRUB {modules:?}, the other builder {:?}", grub::MODULES));
    }
    let state: String = grub::FIRST.iter().map(|(name, value)| format!("{name}={value}\\n")).collect();
    if !script.contains(&format!("# GRUB Environment Block\\n{state}'")) {
        faults.push(format!("post-image.sh does not begin grubenv with {state}"));
    }
    for (line, what) in [("-p '(,gpt2)/grub' ", "core.img"), ("-O x86_64-efi -p /grub ", "GRUB for UEFI")] {
        if !script.contains(line) {
            faults.push(format!("post-image.sh: {what} is not told {line}"));
        }
    }
    let configuration = tree.files.get("rootfs/boot/grub.cfg").map_or("", |file| &file.text);
    for words in ["set number=3\n", "set number=4\n", " console=ttyS0,"] {
        let times = configuration.matches(words).count();
        if times != 1 {
            faults.push(format!("grub.cfg has {words:?} {times} times; post-image.sh changes one for arm64"));
        }
    }
    faults
}

/// The same seal, in the same place, and the same options of squashfs and dm-verity.
pub(crate) fn slots_agree(tree: &Tree) -> Vec<String> {
    let script = tree.text("board/kiln/post-image.sh");
    let block = BLOCK.to_string();
    let bound = format!("-le $(({} << 20))", BOUND >> 20);
    [
        "'kiln-seal 1\\ndata-blocks %s\\nroot %s\\nsalt %s\\nversion %s\\n' \"$blocks\" \"$hash\" \"$salt\" \"$version\"",
        "poke \"$slot\" $((blocks * BLOCK))",
        "--hash-offset=$(((blocks + 1) * BLOCK))",
        "--data-block-size=BLOCK --hash-block-size=BLOCK --hash=sha256",
        "-all-root -no-xattrs -no-exports -comp gzip -b 128K",
        "SOURCE_DATE_EPOCH=EPOCH",
        &bound,
    ]
    .into_iter()
    .map(|words| words.replace("BLOCK", &block).replace("=EPOCH", &format!("={}", hw_tests::artifact::command::EPOCH)))
    .filter(|words| !script.contains(words.as_str()))
    .map(|words| format!("post-image.sh lacks {words}"))
    .collect()
}
