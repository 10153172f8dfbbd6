/// An announcement: `add@/devices/…`, then `KEY=value`, each ended by a zero octet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// What happened: `add`, `remove`, `change`, `bind`, …
    pub action: &'a str,
    /// What kind of device: `block`, `net`, `pci`, …
    pub subsystem: &'a str,
    /// What serves it, in the words of `modules.alias`.
    pub modalias: Option<&'a str>,
}

impl Uevent<'_> {
    /// Reads one; of what is none, nothing is known.
    pub fn parse(message: &[u8]) -> Uevent<'_> {
        let mut event = Uevent::default();
        for field in message.split(|&b| b == 0) {
            match std::str::from_utf8(field).ok().and_then(|field| field.split_once('=')) {
                Some(("ACTION", value)) => event.action = value,
                Some(("SUBSYSTEM", value)) => event.subsystem = value,
                Some(("MODALIAS", value)) => event.modalias = Some(value),
                _ => {}
            }
        }
        event
    }
}

#[cfg(test)]
mod tests;
