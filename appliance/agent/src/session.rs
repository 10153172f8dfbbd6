//! The one connection to the appliance: orders in, status and log out.

use crate::{
    board::Board,
    clock,
    cmdline::Appliance,
    http::{Connection, Trouble},
    pace::{BackOff, Pace},
};
use agent_proto::{JobId, Order, VERSION};
use boot::{AgentLine, HandLine, Json};
use serde::Deserialize;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    panic, thread,
};

/// A line from the appliance is at most so long.
const LINE: usize = 256 * 1024;

/// Keeps a connection, for ever. Jobs do not notice when it breaks.
pub(crate) fn keep(board: &Board, appliance: &Appliance) -> ! {
    let mut rests = BackOff::default();
    let mut line = 0;
    loop {
        line += 1;
        let leases = board.leases();
        match connect(appliance) {
            Ok((stream, ahead)) => {
                log::info!(appliance:% = appliance.address, attempt:% = appliance.attempt; "connected");
                if talk(board, line, stream, ahead) {
                    rests.reset();
                }
                log::warn!(appliance:% = appliance.address; "connection lost");
            }
            // Not before the first lease can have come, and then once a minute.
            Err(trouble) if rests.tries() % 12 == 3 => {
                log::warn!(appliance:% = appliance.address, trouble:%; "no connection yet");
            }
            Err(_) => {}
        }
        let rest = rests.next();
        board.wait_lease(leases, clock::now() + rest);
    }
}

fn connect(appliance: &Appliance) -> Result<(TcpStream, Vec<u8>), Trouble> {
    let path = format!("{}/agent/{}", appliance.prefix, appliance.attempt);
    Connection::open(appliance)?.upgrade(&path, &|| false)
}

/// Speaks and listens until the connection ends. Whether anything was heard: one that is closed at once
/// is not worth coming back to in a hurry.
fn talk(board: &Board, line: u64, stream: TcpStream, ahead: Vec<u8>) -> bool {
    thread::scope(|scope| {
        let hearing = scope.spawn(|| {
            let heard = hear(board, &stream, ahead);
            board.end(line);
            heard
        });
        if let Err(e) = speak(board, line, &stream) {
            log::warn!(error:% = e; "cannot send");
        }
        // Ends the other thread's read; it may have ended by itself.
        let _ = stream.shutdown(Shutdown::Both);
        hearing.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

fn speak(board: &Board, line: u64, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut pace = Pace::default();
    loop {
        let news = board.news(line, &mut pace);
        if news.ended {
            return Ok(());
        }
        let mut text = Vec::new();
        if let Some(status) = &news.status {
            push(&mut text, &AgentLine::Status(Json::of(status)?))?;
        }
        let mut said = None;
        if let Some((lines, number)) = news.lines {
            push(&mut text, &AgentLine::Log(lines))?;
            said = Some(number);
        }
        stream.write_all(&text)?;
        if let Some(number) = said {
            board.lines_said(number);
        }
    }
}

fn push(text: &mut Vec<u8>, line: &AgentLine) -> std::io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// Takes orders until the connection ends; whether there was one.
fn hear(board: &Board, mut stream: &TcpStream, ahead: Vec<u8>) -> bool {
    let mut lines = Lines::default();
    let mut heard = false;
    let mut room = vec![0; 16 * 1024];
    let mut next = lines.push(&ahead);
    loop {
        match next {
            Ok(texts) => {
                for text in texts {
                    heard = true;
                    obey(board, &text);
                }
            }
            Err(TooLong) => {
                log::warn!(bound = LINE; "line of the appliance is too long");
                return heard;
            }
        }
        // The read ends every second; nobody has to be heard from for the connection to be good.
        next = match stream.read(&mut room) {
            Ok(0) => return heard,
            Ok(count) => lines.push(&room[..count]),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(Vec::new())
            }
            Err(_) => return heard,
        };
    }
}

fn obey(board: &Board, text: &[u8]) {
    match read(text) {
        Ok(Some(order)) => {
            if order.version != VERSION {
                log::warn!(theirs = order.version, ours = VERSION; "order of another version");
            }
            board.order(order);
        }
        Ok(None) => log::warn!("line of the appliance not understood"),
        Err((id, text)) => {
            log::error!(job = id, text; "order cannot be carried out");
            board.refuse(id, text);
        }
    }
}

/// The order in a line. None: it is no order. Error: a job that this agent does not know how to do.
fn read(text: &[u8]) -> Result<Option<Order>, (JobId, String)> {
    #[derive(Deserialize)]
    struct Unknown {
        job: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        id: JobId,
    }
    let Ok(HandLine::Order(json)) = serde_json::from_slice(text) else { return Ok(None) };
    match json.read::<Order>() {
        Ok(order) => Ok(Some(order)),
        Err(e) => match json.read::<Unknown>() {
            Ok(unknown) => {
                let text = format!("this agent ({}) cannot read the order: {e}", env!("CARGO_PKG_VERSION"));
                Err((unknown.job.id, text))
            }
            Err(_) => Ok(None),
        },
    }
}

/// Octets as they come, cut into lines.
#[derive(Default)]
struct Lines {
    part: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct TooLong;

impl Lines {
    fn push(&mut self, mut octets: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut lines = Vec::new();
        while let Some(end) = octets.iter().position(|&b| b == b'\n') {
            if self.part.len() + end > LINE {
                return Err(TooLong);
            }
            let mut line = std::mem::take(&mut self.part);
            line.extend_from_slice(&octets[..end]);
            if !line.is_empty() {
                lines.push(line);
            }
            octets = &octets[end + 1..];
        }
        if self.part.len() + octets.len() > LINE {
            return Err(TooLong);
        }
        self.part.extend_from_slice(octets);
        Ok(lines)
    }
}

#[cfg(test)]
mod tests;
