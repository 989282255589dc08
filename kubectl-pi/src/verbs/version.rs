//! `kubectl pi version`.

use crate::{
    cli::{Target, Version},
    cluster::connection::Connection,
    output,
};

/// Prints the versions, as kubectl does.
pub(crate) async fn run(target: &Target, args: &Version) -> anyhow::Result<bool> {
    output::print(&format!("Client Version: v{}\n", env!("CARGO_PKG_VERSION")))?;
    if !args.client {
        let server = Connection::open(target)?.client.apiserver_version().await?;
        output::print(&format!("Server Version: {}\n", server.git_version))?;
    }
    Ok(true)
}
