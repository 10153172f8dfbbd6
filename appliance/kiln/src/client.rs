use anyhow::{Context as _, Result, anyhow, bail};
use core::time::Duration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::{Agent, AsSendBody, Body, SendBody};

/// The API, seen from here.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    token: String,
}

#[derive(Deserialize)]
struct Refused {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    text: String,
}

/// An appliance that is there takes a connection at once.
const CONNECT: Duration = Duration::from_secs(5);

impl Client {
    pub(crate) fn new(url: &str, token_file: &Path) -> Result<Client> {
        let token = std::fs::read_to_string(token_file).with_context(|| {
            format!(
                "cannot read the API's token from {}; on the appliance it is DATA/token, and --token-file or \
                 KILN_TOKEN_FILE names a copy",
                token_file.display()
            )
        })?;
        let token = token.trim().to_owned();
        if token.is_empty() || !token.bytes().all(|octet| octet.is_ascii_graphic()) {
            bail!("{} holds no token: it is one word, made by the appliance", token_file.display());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(Duration::from_secs(600)))
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Client { agent: config.into(), url, token })
    }

    fn send(&self, method: Method, path: &str, body: impl AsSendBody) -> Result<Response<Body>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("Bearer {}", self.token))
            .body(body)
            .with_context(|| format!("{} is no URL: it looks like http://127.0.0.1:8080", self.url))?;
        let answer = self.agent.run(request).map_err(|e| {
            anyhow!(
                "cannot reach the appliance at {}: {e}. Is it running? --url or KILN_URL names another",
                self.url
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.into_body().read_to_string().unwrap_or_default();
        match serde_json::from_str::<Refused>(&text) {
            Ok(refused) => bail!("{}", refused.error.text),
            Err(_) if status == StatusCode::NOT_FOUND => bail!("{} is not a Kiln appliance's API", self.url),
            Err(_) => bail!("the appliance answered {status}: {}", text.trim()),
        }
    }

    fn read<T: DeserializeOwned>(answer: Response<Body>) -> Result<T> {
        let text = answer.into_body().with_config().limit(256 << 20).read_to_string();
        let text = text.context("the appliance's answer was cut off")?;
        serde_json::from_str(&text).context("the appliance's answer is not what this release of kiln knows")
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Client::read(self.send(Method::GET, path, ())?)
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        Client::read(self.send(Method::POST, path, SendBody::from_json(body)?)?)
    }

    /// An answer that is read as it comes, however long.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Result<impl Read + use<>> {
        Ok(self.send(Method::POST, path, SendBody::from_json(body)?)?.into_body().into_reader())
    }

    /// `true`: something changed.
    pub(crate) fn put(&self, path: &str, body: &impl Serialize) -> Result<bool> {
        let answer = self.send(Method::PUT, path, SendBody::from_json(body)?)?;
        Ok(answer.status() == StatusCode::CREATED)
    }

    pub(crate) fn upload<T: DeserializeOwned>(&self, path: &str, mut body: impl Read) -> Result<T> {
        Client::read(self.patient().send(Method::PUT, path, SendBody::from_reader(&mut body))?)
    }

    /// The same, for what takes the appliance as long as it takes: it looks through all that it was sent.
    fn patient(&self) -> Client {
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_connect(Some(CONNECT)).build();
        Client { agent: config.into(), url: self.url.clone(), token: self.token.clone() }
    }

    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, ()).map(drop)
    }

    /// Lines of an answer that may not end.
    pub(crate) fn lines(&self, path: &str) -> Result<impl Iterator<Item = io::Result<String>> + use<>> {
        Ok(BufReader::new(self.send(Method::GET, path, ())?.into_body().into_reader()).lines())
    }
}

/// Whether nobody reads what we print any more: `kiln node list | head -1`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
