//! A port, for clients in other processes.

use std::{
    net::{self, SocketAddr},
    thread,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, runtime};
use tower::Service;

use crate::ApiServer;

impl ApiServer {
    /// Serves on a port of this machine, without TLS and on a thread of its own, until the test process ends. A
    /// [broken](crate::Answer::broken) request ends its connection.
    pub fn listen(&self) -> SocketAddr {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = self.clone();
        thread::spawn(move || runtime.block_on(server.accept(listener)));
        address
    }

    async fn accept(self, listener: net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| server.clone().call(request));
                let builder = Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                // Scripts and clients break connections: that is no failure of the server.
                drop(connection.await);
            });
        }
    }
}
