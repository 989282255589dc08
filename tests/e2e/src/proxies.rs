//! Proxies that a test can look into: they count whom they connect.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The longest request of a client of the HTTP proxy.
const MAX_HEAD: usize = 8 << 10;

/// How a proxy is asked to connect.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// By the method CONNECT.
    Http,
    /// By SOCKS version 5.
    Socks5,
}

/// A proxy, which ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    connected: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one.
    pub async fn start(protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let connected = Arc::<AtomicUsize>::default();
        let count = connected.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let count = count.clone();
                open.spawn(async move {
                    // What goes wrong, the client tells.
                    drop(serve(protocol, client, &count).await);
                });
            }
        });
        Ok(Self {
            address,
            connected,
            _tasks: tasks,
        })
    }

    /// How many connections it made since it was last asked.
    pub fn connected(&self) -> usize {
        self.connected.swap(0, Ordering::Relaxed)
    }
}

async fn serve(protocol: Protocol, mut client: TcpStream, count: &AtomicUsize) -> Result<()> {
    let target = match protocol {
        Protocol::Http => http_target(&mut client).await?,
        Protocol::Socks5 => socks_target(&mut client).await?,
    };
    let mut server = TcpStream::connect(&target).await?;
    count.fetch_add(1, Ordering::Relaxed);
    let answer: &[u8] = match protocol {
        Protocol::Http => b"HTTP/1.1 200 Connection established\r\n\r\n",
        Protocol::Socks5 => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    };
    client.write_all(answer).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn http_target(client: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < MAX_HEAD, "a head without an end");
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("no CONNECT: {head}"))?;
    Ok(target.to_owned())
}

async fn socks_target(client: &mut TcpStream) -> Result<String> {
    ensure!(client.read_u8().await? == 5, "another version");
    let mut methods = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut methods).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    ensure!(request[..3] == [5, 1, 0], "no CONNECT: {request:?}");
    let host = match request[3] {
        1 => {
            let mut ip = [0; 4];
            client.read_exact(&mut ip).await?;
            Ipv4Addr::from(ip).to_string()
        }
        3 => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            String::from_utf8(name)?
        }
        4 => {
            let mut ip = [0; 16];
            client.read_exact(&mut ip).await?;
            format!("[{}]", Ipv6Addr::from(ip))
        }
        other => anyhow::bail!("an address of type {other}"),
    };
    Ok(format!("{host}:{}", client.read_u16().await?))
}
