use super::Hand;
use super::body::{Answer, Source, Stretch, Teller};
use super::range::{Asked, asked};
use super::session::Entrant;
use super::table::{Place, Table, allows};
use crate::library::{LibraryError, Reader};
use boot::{Digest, Script, Session};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE, RANGE, UPGRADE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::spawn_blocking;

/// The protocol that an agent's connection changes to.
const AGENT: &str = "kiln-agent";

/// One request, and what is known of who sent it.
pub(super) struct Asking {
    pub(super) hand: Arc<Hand>,
    pub(super) peer: SocketAddr,
    /// Where an agent is put that is let in on this connection.
    pub(super) entrant: Arc<Mutex<Option<Entrant>>>,
}

/// What is sent of something that has a size.
struct Thing {
    source: Source,
    size: u64,
    kind: &'static str,
    /// A strong validator (RFC 9110, 8.8.3), for what never changes.
    tag: Option<String>,
    /// Whether its transfer is told as an asset's.
    asset: bool,
}

impl Asking {
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<Answer> {
        let table = self.hand.table.borrow().clone();
        let path = request.uri().path().to_owned();
        let readable = matches!(*request.method(), Method::GET | Method::HEAD);
        let place = table.place(&path);
        match place {
            Place::Nowhere(why) => self.lost(StatusCode::NOT_FOUND, &path, why),
            Place::Agent(session) if request.method() == Method::POST => self.agent(session, &path, request),
            Place::Agent(_) => refused("POST"),
            _ if !readable => refused("GET, HEAD"),
            Place::Script(script) => self.script(script, request.method()),
            Place::Asset(file) => self.file(file, &path, request, true).await,
            Place::ConfigDrive(session, file) => match token(request.headers()) {
                Some(token) if allows(session, token) => {
                    self.file(Path::new(file), &path, request, false).await
                }
                _ => self.lost(StatusCode::FORBIDDEN, &path, "wrong token"),
            },
            Place::Image(digest) => match self.image(&table, &digest, &path, request.headers()).await {
                Ok(reader) => {
                    let size = reader.size();
                    let tag = Some(format!("\"{digest}\""));
                    let kind = "application/octet-stream";
                    let thing = Thing { source: Source::Image(reader), size, kind, tag, asset: false };
                    self.send(thing, &path, request).await
                }
                Err(refusal) => refusal,
            },
            Place::Manifest(digest) => match self.image(&table, &digest, &path, request.headers()).await {
                Ok(reader) => {
                    // It can be some megabytes, and making it takes its time.
                    match spawn_blocking(move || reader.manifest().encode()).await {
                        Ok(encoded) => text(encoded.into(), "application/json", request.method()),
                        Err(e) => self.broken(&path, &e.to_string()),
                    }
                }
                Err(refusal) => refusal,
            },
        }
    }

    /// An answer without what was asked for, of which control is told.
    fn lost(&self, status: StatusCode, path: &str, why: &str) -> Response<Answer> {
        self.hand.outbox.lost(self.peer, path, why.to_owned());
        brief(status, why)
    }

    /// An answer to what should have been there: control is told why, a stranger is not.
    fn broken(&self, path: &str, why: &str) -> Response<Answer> {
        self.hand.outbox.lost(self.peer, path, why.to_owned());
        brief(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be read; the appliance's log says why")
    }

    fn script(&self, script: &Script, method: &Method) -> Response<Answer> {
        let body = Bytes::copy_from_slice(script.body.expose().as_bytes());
        let mut answer = text(body.clone(), "text/plain; charset=utf-8", method);
        // It is this machine's, and of this moment.
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if method == Method::GET {
            let outbox = self.hand.outbox.clone();
            *answer.body_mut() = Answer::Script(Some((body, outbox, self.peer, script.attempt.clone())));
        }
        answer
    }

    async fn file(
        &self,
        file: &Path,
        path: &str,
        request: Request<Incoming>,
        asset: bool,
    ) -> Response<Answer> {
        let file = PathBuf::from(file);
        let opened = spawn_blocking({
            let file = file.clone();
            move || open(&file)
        });
        match opened.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok((opened, size)) => {
                // Firmware that boots by HTTP goes by the type before it looks at the name.
                let efi = path.to_ascii_lowercase().ends_with(".efi");
                let kind = if efi { "application/efi" } else { "application/octet-stream" };
                let source = Source::File(Arc::new(opened));
                self.send(Thing { source, size, kind, tag: None, asset }, path, request).await
            }
            Err(e) => {
                self.broken(path, &format!("{}: {e}; the plan names it, so put it there", file.display()))
            }
        }
    }

    /// An image, if the token that came may read it.
    async fn image(
        &self,
        table: &Arc<Table>,
        digest: &Digest,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Arc<Reader>, Response<Answer>> {
        match token(headers).and_then(|token| table.may_read(token, digest)) {
            Some(true) => {}
            Some(false) => {
                return Err(self.lost(StatusCode::FORBIDDEN, path, "the token is for another image"));
            }
            None => return Err(self.lost(StatusCode::FORBIDDEN, path, "wrong token")),
        }
        if let Some(open) = self.hand.images().get(digest) {
            return Ok(open.clone());
        }
        let Some(library) = table.library.clone() else {
            return Err(self.lost(StatusCode::NOT_FOUND, path, "the plan has no directory of images"));
        };
        let wanted = *digest;
        match spawn_blocking(move || library.open(&wanted)).await {
            Ok(Ok(reader)) => {
                let reader = Arc::new(reader);
                // The plan may have changed while the disk was read.
                if self.hand.table.borrow().lists(digest) {
                    self.hand.images().insert(*digest, reader.clone());
                }
                Ok(reader)
            }
            Ok(Err(LibraryError::NotFound(_))) => {
                Err(self.lost(StatusCode::NOT_FOUND, path, "no such image in the library"))
            }
            Ok(Err(e)) => Err(self.broken(path, &e.to_string())),
            Err(e) => Err(self.broken(path, &e.to_string())),
        }
    }

    /// Sends all or a part of something.
    async fn send(&self, thing: Thing, path: &str, request: Request<Incoming>) -> Response<Answer> {
        let headers = request.headers();
        let field = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        // RFC 9110, 13.1.5: a range of something else than the client has a part of would be of no use to it.
        let same = field(IF_RANGE).is_none_or(|tag| thing.tag.as_deref() == Some(tag));
        // 14.2: "GET is the only method for which range handling is defined."
        let ranged = request.method() == Method::GET && same;
        let asked = asked(field(RANGE).filter(|_| ranged), thing.size);
        let size = thing.size;
        let (status, range) = match asked {
            Asked::Whole => (StatusCode::OK, 0..size),
            Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Asked::Beyond => {
                let mut answer = brief(StatusCode::RANGE_NOT_SATISFIABLE, "there are no such octets");
                put(&mut answer, CONTENT_RANGE, &format!("bytes */{size}"));
                return answer;
            }
        };
        let mut answer = Response::new(Answer::Nothing);
        *answer.status_mut() = status;
        put(&mut answer, CONTENT_LENGTH, &(range.end - range.start).to_string());
        put(&mut answer, CONTENT_TYPE, thing.kind);
        put(&mut answer, ACCEPT_RANGES, "bytes");
        if let Some(tag) = &thing.tag {
            put(&mut answer, ETAG, tag);
        }
        if status == StatusCode::PARTIAL_CONTENT {
            put(&mut answer, CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
        }
        if request.method() == Method::GET {
            let teller = Teller {
                outbox: self.hand.outbox.clone(),
                peer: self.peer,
                path: path.to_owned(),
                asset: thing.asset.then_some(size),
            };
            match Stretch::begin(thing.source, range, teller).await {
                Ok(stretch) => *answer.body_mut() = Answer::Stretch(Box::new(stretch)),
                Err(e) => return self.broken(path, &e.to_string()),
            }
        }
        answer
    }

    /// Lets an agent in.
    fn agent(&self, session: &Session, path: &str, mut request: Request<Incoming>) -> Response<Answer> {
        let Some(token) = token(request.headers()).filter(|token| allows(session, token)) else {
            return self.lost(StatusCode::FORBIDDEN, path, "wrong token");
        };
        let token = boot::Secret::new(token);
        let mut protocols = request.headers().get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
        if !protocols.any(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(AGENT))) {
            let mut answer = brief(StatusCode::UPGRADE_REQUIRED, "an agent asks for Upgrade: kiln-agent");
            put(&mut answer, UPGRADE, AGENT);
            put(&mut answer, CONNECTION, "upgrade");
            return answer;
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let attempt = session.attempt.clone();
        let entrant = Entrant { upgrade, attempt, token, peer: self.peer };
        self.entrant.lock().unwrap_or_else(PoisonError::into_inner).replace(entrant);
        let mut answer = Response::new(Answer::Nothing);
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        put(&mut answer, UPGRADE, AGENT);
        put(&mut answer, CONNECTION, "upgrade");
        answer
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok((file, meta.len()))
}

/// The token of a request (RFC 6750, 2.1).
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn put(answer: &mut Response<Answer>, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// An answer that is a line for a person.
fn brief(status: StatusCode, why: &str) -> Response<Answer> {
    let mut answer = text(format!("{why}\n").into(), "text/plain; charset=utf-8", &Method::GET);
    *answer.status_mut() = status;
    answer
}

fn refused(allowed: &'static str) -> Response<Answer> {
    let mut answer = brief(StatusCode::METHOD_NOT_ALLOWED, "not by this method");
    put(&mut answer, ALLOW, allowed);
    answer
}

fn text(body: Bytes, kind: &str, method: &Method) -> Response<Answer> {
    let mut answer = Response::new(Answer::Nothing);
    put(&mut answer, CONTENT_LENGTH, &body.len().to_string());
    put(&mut answer, CONTENT_TYPE, kind);
    if method == Method::GET {
        *answer.body_mut() = Answer::Text(Some(body));
    }
    answer
}
