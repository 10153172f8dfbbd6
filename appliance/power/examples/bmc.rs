//! A BMC that is only software, for other people's consoles:
//! `cargo run -p power --example bmc -- 127.0.0.1:9623 admin secret`, and then
//! `ipmitool -I lanplus -C 17 -H 127.0.0.1 -p 9623 -U admin -P secret chassis power on`.

use ipmi::{Account, Bmc, BmcConfig, Password, Privilege, UserName};
use power::Double;
use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, password] = arguments.as_slice() else {
        return Err("say three things: ADDRESS:PORT USER PASSWORD".into());
    };
    let account = Account {
        user: UserName::new(user)?,
        password: Password::new(password)?,
        limit: Privilege::Administrator,
    };
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let config = BmcConfig { guid: *b"kiln-example-bmc", accounts: vec![account], slots: 4 };
    let double = Double::start(Bmc::new(config, seed), address.parse::<SocketAddr>()?).await?;
    println!("a BMC answers on {}", double.address());
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        for event in double.events() {
            println!("{event:?}");
        }
    }
}
