//! Parses and emits packets; decides nothing.

/// How a file's octets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Octet,
    /// As lines of text: LF as CR LF, CR as CR NUL.
    Netascii,
}

/// A read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The file, as the client wrote it; what is not UTF-8 replaced.
    pub name: String,
    /// The mode; `None` is one that we do not know.
    pub mode: Option<Mode>,
    /// Options in their order, names in lower case (RFC 2347: "case insensitive").
    pub options: Vec<(String, String)>,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// 1.
    ReadRequest(Request),
    /// 2.
    WriteRequest,
    /// 3: a block number and its octets.
    Data(u16, &'a [u8]),
    /// 4: a block number.
    Ack(u16),
    /// 5: a code and a text.
    Error(u16, String),
    /// 6: options, as in a request.
    OptionAck(Vec<(String, String)>),
}

/// Reads a packet; `None` is malformed.
pub fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let (code, rest) = number(bytes)?;
    Some(match code {
        1 => {
            let mut strings = strings(rest)?;
            let name = strings.next()?;
            let mode = match strings.next()?.to_ascii_lowercase().as_str() {
                "octet" => Some(Mode::Octet),
                "netascii" => Some(Mode::Netascii),
                _ => None,
            };
            Packet::ReadRequest(Request { name, mode, options: options(strings) })
        }
        2 => Packet::WriteRequest,
        3 => number(rest).map(|(block, data)| Packet::Data(block, data))?,
        4 => Packet::Ack(number(rest)?.0),
        5 => {
            let (code, text) = number(rest)?;
            let text = text.split(|octet| *octet == 0).next().unwrap_or_default();
            Packet::Error(code, String::from_utf8_lossy(text).into_owned())
        }
        6 => Packet::OptionAck(options(strings(rest)?)),
        _ => return None,
    })
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Strings that each end with a NUL; octets after the last NUL are none, and some ROMs send such.
fn strings(bytes: &[u8]) -> Option<impl Iterator<Item = String>> {
    let end = bytes.iter().rposition(|octet| *octet == 0)?;
    Some(bytes[..end].split(|octet| *octet == 0).map(|text| String::from_utf8_lossy(text).into_owned()))
}

fn options(mut strings: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
        all.push((name.to_ascii_lowercase(), value));
    }
    all
}

/// Emits a read request.
pub fn read_request(name: &str, mode: Mode, options: &[(&str, u64)]) -> Vec<u8> {
    let mode = match mode {
        Mode::Octet => "octet",
        Mode::Netascii => "netascii",
    };
    let mut packet = vec![0, 1];
    for text in [name, mode] {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    }
    append(&mut packet, options);
    packet
}

/// Emits a block.
pub fn data(block: u16, octets: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(4 + octets.len());
    packet.extend_from_slice(&[0, 3]);
    packet.extend_from_slice(&block.to_be_bytes());
    packet.extend_from_slice(octets);
    packet
}

/// Emits an acknowledgement.
pub fn ack(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, 4, high, low]
}

/// Emits an error; codes are those of RFC 1350, 5, and 8 of RFC 2347.
pub fn error(code: u16, text: &str) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    let mut packet = vec![0, 5, high, low];
    packet.extend_from_slice(text.as_bytes());
    packet.push(0);
    packet
}

/// Emits an acknowledgement of options.
pub fn option_ack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = vec![0, 6];
    append(&mut packet, options);
    packet
}

fn append(packet: &mut Vec<u8>, options: &[(&str, u64)]) {
    for (name, value) in options {
        packet.extend_from_slice(name.as_bytes());
        packet.push(0);
        packet.extend_from_slice(value.to_string().as_bytes());
        packet.push(0);
    }
}

#[cfg(test)]
mod tests;
