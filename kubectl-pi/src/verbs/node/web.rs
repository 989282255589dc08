//! `kubectl pi node NODE --web`: the agent's page in a browser, by a local port whose every connection is
//! forwarded to the agent that the node has then. It goes on when the agent is replaced.

use std::{env, net::Ipv4Addr, sync::Arc};

use anyhow::Context;
use kube::Client;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
};

use crate::{
    cluster::{agent::unreachable, tunnel::Tunnel},
    output,
};

/// How many connections may be open; a browser has six. More wait until one of them ends.
const CONNECTIONS: usize = 16;

/// Serves the page until somebody presses Ctrl-C.
pub(super) async fn serve(
    client: Client,
    node: String,
    port: u16,
    show: bool,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("cannot listen on port {port} of 127.0.0.1"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    output::print(&format!("{url}\n"))?;
    if show && has_display() {
        match open::that_detached(&url) {
            Ok(()) => output::note(&format!(
                "Opening the page of {node}. Press Ctrl-C to stop."
            )),
            Err(error) => output::note(&format!(
                "Cannot open a browser ({error}); open the page yourself."
            )),
        }
    } else {
        output::note(&format!(
            "Serving the page of {node}. Press Ctrl-C to stop."
        ));
    }
    tokio::select! {
        ended = carry_all(listener, client, node) => ended,
        pressed = tokio::signal::ctrl_c() => Ok(pressed?),
    }
}

async fn carry_all(listener: TcpListener, client: Client, node: String) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let told = Arc::new(Mutex::new(String::new()));
    loop {
        let place = room.clone().acquire_owned().await?;
        let (browser, _) = listener.accept().await?;
        let (client, node, told) = (client.clone(), node.clone(), told.clone());
        tokio::spawn(async move {
            let carried = carry(browser, &client, &node).await;
            drop(place);
            // The browser asks again and again: what goes on is told once.
            let mut told = told.lock().await;
            let problem = carried
                .err()
                .map_or_else(String::new, |error| output::sentence(&error));
            if *told != problem && !problem.is_empty() {
                output::note(&problem);
            }
            *told = problem;
        });
    }
}

/// Carries one connection, until either side has ended it.
async fn carry(mut browser: TcpStream, client: &Client, node: &str) -> anyhow::Result<()> {
    let Tunnel { mut stream, fault } = Tunnel::open(client, node).await?;
    tokio::select! {
        // A browser that goes away breaks its connections off.
        _ = copy_bidirectional(&mut browser, &mut stream) => Ok(()),
        Some(fault) = fault => Err(unreachable(node, &fault)),
    }
}

/// Whether somebody sits before this machine's screen. A browser for terminals would take ours.
fn has_display() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(any(target_os = "macos", windows)) || set("DISPLAY") || set("WAYLAND_DISPLAY")
}
