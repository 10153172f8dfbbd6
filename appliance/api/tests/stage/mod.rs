//! An API with a control of its own behind it, on this machine's loopback.

use api::{Api, Ask, Link, Places};
use boot::Secret;
use control::{Control, Site};
use sansio::Time;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use store::Store;
use tempfile::TempDir;
use tokio::sync::watch;

pub(crate) const TOKEN: &str = "the-token";

pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) files: TempDir,
}

impl Stage {
    /// Begins it, its files in a folder of its own. `anew` is called when all services are to begin again. Its threads end
    /// with the test's process.
    pub(crate) fn begin(store: impl FnOnce(&Path) -> Box<dyn Store> + Send + 'static, anew: fn()) -> Stage {
        let files = tempfile::tempdir().unwrap();
        let (asks, asked) = sync_channel::<Ask>(64);
        let (newest, events) = watch::channel(0);
        let path = files.path().join("store");
        std::thread::spawn(move || {
            let mut control = Control::open(store(&path), Site::default(), [7; 32], Time::ZERO).unwrap();
            for (turn, ask) in asked.into_iter().enumerate() {
                ask(&mut control, Time::from_secs(turn as u64 + 1));
                newest.send_replace(control.newest_event().0);
            }
        });
        let at = |name: &str| files.path().join(name);
        let api = Api {
            link: Link::new(asks, events),
            token: Secret::new(TOKEN),
            images: at("images"),
            volumes: at("volumes"),
            drives: at("drives"),
            bundles: at("bundles"),
            most_image: 64 << 20,
            backup: Places::new(at("token"), at("box.toml"), at("restore"), anew),
        };
        let (bound, told) = sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, api::router(api)).await.unwrap();
            });
        });
        Stage { address: told.recv().unwrap(), files }
    }

    /// Asks it something; returns the status and the answer's body.
    pub(crate) fn ask(&self, token: &str, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("Authorization", format!("Bearer {token}"))
            .body(body.to_owned())
            .unwrap();
        let answer = ureq::Agent::from(config).run(request).unwrap();
        let status = answer.status().as_u16();
        let mut octets = Vec::new();
        answer.into_body().into_reader().read_to_end(&mut octets).unwrap();
        (status, octets)
    }
}
