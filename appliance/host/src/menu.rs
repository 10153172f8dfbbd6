//! The first configuration, typed at the console of a box that has none.
//!
//! [`Dialog`] is a value: a question out, a line in. What it makes is a configuration as one on a stick would be, and
//! what [`Config`] refuses is asked again.

use crate::{
    config::Config,
    console, durable, good,
    links::{Kind, Link},
    network,
    report::Report,
};
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::mpsc::{Sender, channel},
    thread,
};

/// Where the answers go.
const KEPT: &str = "/data/kiln.toml";
/// The longest line that is read.
const LONGEST: u64 = 1024;

/// A card to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// As the kernel calls it.
    pub name: String,
    /// What the configuration calls it: its MAC.
    pub mac: String,
    /// Whether somebody is at its other end.
    pub carrier: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Uplink,
    Address,
    Gateway,
    Oob,
    OobAddress,
    Trunk,
    Network,
    Token,
    Keep,
}

/// A person's answers, as far as there are any.
#[derive(Clone, Debug, Default)]
struct Answers {
    uplink: String,
    address: String,
    gateway: Option<String>,
    oob: Option<(String, String)>,
    trunk: Option<String>,
    networks: Vec<(String, String, String)>,
    token: String,
}

/// A conversation with one person.
#[derive(Clone, Debug)]
pub struct Dialog {
    cards: Vec<Card>,
    question: Question,
    answers: Answers,
    /// The token that is taken when the person gives none.
    token: String,
    kept: bool,
}

impl Dialog {
    /// A conversation about a box with these cards; `token` is the API's when the person gives none.
    pub fn new(cards: Vec<Card>, token: String) -> Dialog {
        Dialog { cards, question: Question::Uplink, answers: Answers::default(), token, kept: false }
    }

    /// What is to be said before the next line is read.
    pub fn prompt(&self) -> String {
        match self.question {
            Question::Uplink => {
                let mut text = "The cards of this box:\n".to_owned();
                for (number, card) in (1..).zip(&self.cards) {
                    let link = if card.carrier { "link" } else { "no link" };
                    text.push_str(&format!("  {number}  {}  {}  {link}\n", card.name, card.mac));
                }
                text + "Which is the uplink, by which operators reach its API? "
            }
            Question::Address => "Its address, such as 192.0.2.10/24 [dhcp]: ".to_owned(),
            Question::Gateway => "The gateway there [none]: ".to_owned(),
            Question::Oob => "Which card reaches the BMCs and switches [none]: ".to_owned(),
            Question::OobAddress => "Its address, such as 10.8.0.1/24: ".to_owned(),
            Question::Trunk => "Which card is the trunk to the nodes' switch [none]: ".to_owned(),
            Question::Network => {
                "A network on the trunk: NAME VLAN ADDRESS, such as prov 100 10.7.0.1/24 [no more]: "
                    .to_owned()
            }
            Question::Token => "The API's token [one is made]: ".to_owned(),
            Question::Keep => format!(
                "\n{}\nThe operator's kiln shows the token. Keep this, and start again with it [yes]: ",
                self.answers.text()
            ),
        }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// Why it is no answer; the question stands.
    pub fn handle_line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        if !line.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') {
            return Err("letters, digits and signs of ASCII only".to_owned());
        }
        let mut answers = self.answers.clone();
        let next = match (self.question, line) {
            (Question::Uplink, line) => {
                answers.uplink = self.card(line)?;
                answers.address = "dhcp".to_owned();
                Question::Address
            }
            (Question::Address, "" | "dhcp") => Question::Oob,
            (Question::Address, line) => {
                line.clone_into(&mut answers.address);
                Question::Gateway
            }
            (Question::Gateway, "" | "none") => Question::Oob,
            (Question::Gateway, line) => {
                let gateway: Ipv4Addr =
                    line.parse().map_err(|_| format!("{line:?} is not an IPv4 address"))?;
                answers.gateway = Some(gateway.to_string());
                Question::Oob
            }
            (Question::Oob, "" | "none") => Question::Trunk,
            (Question::Oob, line) => {
                answers.oob = Some((self.card(line)?, String::new()));
                Question::OobAddress
            }
            (Question::OobAddress, line) => {
                if let Some((_, address)) = &mut answers.oob {
                    line.clone_into(address);
                }
                Question::Trunk
            }
            (Question::Trunk, "" | "none") => Question::Token,
            (Question::Trunk, line) => {
                answers.trunk = Some(self.card(line)?);
                Question::Network
            }
            (Question::Network, "") => Question::Token,
            (Question::Network, line) => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [name, vlan, address] = words[..] else {
                    return Err(
                        "that are not three words: a name, a VLAN's number, and the box's address there"
                            .into(),
                    );
                };
                if vlan.parse::<u16>().is_err() {
                    return Err(format!("{vlan:?} is not a VLAN's number"));
                }
                answers.networks.push((name.to_owned(), vlan.to_owned(), address.to_owned()));
                Question::Network
            }
            (Question::Token, line) => {
                let token = if line.is_empty() { &self.token } else { line };
                token.clone_into(&mut answers.token);
                Question::Keep
            }
            (Question::Keep, "" | "yes" | "y") => {
                self.kept = true;
                Question::Keep
            }
            (Question::Keep, _) => {
                answers = Answers::default();
                Question::Uplink
            }
        };
        // A leg without an address yet is no configuration.
        if next != Question::OobAddress
            && next != Question::Uplink
            && let Err(faults) = Config::parse(&answers.text())
        {
            return Err(faults.into_iter().map(|fault| fault.text).collect::<Vec<_>>().join("; "));
        }
        (self.answers, self.question) = (answers, next);
        Ok(())
    }

    /// The configuration, when the person wants it kept.
    pub fn kept(&self) -> Option<String> {
        self.kept.then(|| self.answers.text())
    }

    /// A card by its number, its name or its MAC; what the configuration calls it.
    fn card(&self, said: &str) -> Result<String, String> {
        let by_number = said.parse::<usize>().ok().and_then(|number| self.cards.get(number.checked_sub(1)?));
        let by_name = || self.cards.iter().find(|card| card.name == said || card.mac == said);
        let card = by_number.or_else(by_name);
        let answers = &self.answers;
        let oob = answers.oob.as_ref().map(|(card, _)| card);
        let used = [Some(&answers.uplink), oob, answers.trunk.as_ref()];
        if card.is_some_and(|card| used.contains(&Some(&card.mac))) {
            return Err("that card has another part already".to_owned());
        }
        card.map(|card| card.mac.clone())
            .ok_or_else(|| format!("{said:?} is none of the {} cards: say its number", self.cards.len()))
    }
}

impl Answers {
    /// The configuration that they make.
    fn text(&self) -> String {
        let mut text = format!("[uplink]\ndevice = {:?}\naddress = {:?}\n", self.uplink, self.address);
        if let Some(gateway) = &self.gateway {
            text.push_str(&format!("gateway = {gateway:?}\n"));
        }
        if let Some((device, address)) = &self.oob {
            text.push_str(&format!("\n[oob]\ndevice = {device:?}\naddress = {address:?}\n"));
        }
        if let Some(trunk) = &self.trunk {
            text.push_str(&format!("\n[trunk]\ndevice = {trunk:?}\n"));
        }
        for (name, vlan, address) in &self.networks {
            text.push_str(&format!("\n[[network]]\nname = {name:?}\nvlan = {vlan}\naddress = {address:?}\n"));
        }
        if !self.token.is_empty() {
            text.push_str(&format!("\n[api]\ntoken = {:?}\n", self.token));
        }
        text
    }
}

/// Asks on every console of a box without a configuration, until somebody answered on one of them; then the box
/// starts again with it. Where there is a configuration, or none to keep one on, it does nothing.
///
/// # Errors
/// The kernel's or the file system's.
pub fn run() -> Result<()> {
    let report = Report::read()?;
    if report.configuration.file.is_some() {
        return Ok(());
    }
    if !report.data.is_some_and(|data| data.keeps()) {
        bail!("this box has no data partition that could keep a configuration on: give it one on a stick");
    }
    let links = network::interfaces()?;
    let cards: Vec<Card> = links.iter().filter_map(|interface| card(&interface.link)).collect();
    if cards.is_empty() {
        bail!("this box has no network card that it has a driver for");
    }
    let mut random = [0; 24];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).context("no randomness")?;
    let token: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    let (answered, answers) = channel();
    for place in console::devices() {
        let (dialog, answered) = (Dialog::new(cards.clone(), token.clone()), answered.clone());
        let named = place.display().to_string();
        thread::Builder::new()
            .name("console".into())
            .spawn(move || {
                // One that is gone is none that anybody types at.
                let _ = converse(&place, dialog, &answered);
            })
            .with_context(|| format!("no thread for {named}"))?;
    }
    drop(answered);
    let Ok(text) = answers.recv() else { bail!("this box has no console that can be typed at") };
    durable::keep(Path::new(KEPT), text.as_bytes(), 0o600)
        .with_context(|| format!("{KEPT} cannot be written"))?;
    console::say("the configuration is kept; the box starts again with it");
    match good::restart()? {}
}

fn card(link: &Link) -> Option<Card> {
    (link.kind == Kind::Card).then(|| Card {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        carrier: link.carrier,
    })
}

/// Talks on one console until its person has answered everything.
fn converse(place: &Path, mut dialog: Dialog, answered: &Sender<String>) -> Result<()> {
    let mut out = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(place)?;
    let mut lines = BufReader::new(out.try_clone()?);
    loop {
        if let Some(text) = dialog.kept() {
            let _ = answered.send(text);
            return Ok(());
        }
        out.write_all(dialog.prompt().replace('\n', "\r\n").as_bytes())?;
        let mut line = Vec::new();
        if (&mut lines).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Err(why) = dialog.handle_line(&String::from_utf8_lossy(&line)) {
            out.write_all(format!("No: {why}\r\n").as_bytes())?;
        }
    }
}

#[cfg(test)]
mod tests;
