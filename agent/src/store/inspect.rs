//! `curfew-agent store dump|verify`: shows the content of the store.
//!
//! A running agent locks its store, so the command asks the agent, on the loopback address of its pod. It reads the
//! files only if no agent runs.

use std::{io::Write, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use curfew_core::Record;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};

use crate::{
    args::{Args, StoreCommand},
    store::{Store, recovery},
};

/// Where a running agent tells what its store holds.
pub(crate) const PATH: &str = "/v1/store";

/// Records of a few hundred pods are far smaller.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a store holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holdings {
    /// Whether the store is open and its last write was good.
    pub open: bool,
    /// The records.
    pub records: Vec<Record>,
    /// UIDs whose value this release cannot read.
    pub set_aside: Vec<String>,
}

/// Carries out the command and prints to `out`.
///
/// # Errors
/// When the store cannot be read, or, for `verify`, when something in it is not as it should be.
pub async fn run(command: StoreCommand, args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let (holdings, source) = match ask(args.debug_listen).await? {
        Some(holdings) => (holdings, format!("the agent at {}", args.debug_listen)),
        None => {
            let path = recovery::path(&args.store);
            (read(&path)?, format!("the files in {}", path.display()))
        }
    };
    match command {
        StoreCommand::Dump => {
            for record in &holdings.records {
                writeln!(out, "{}", serde_json::to_string(record)?)?;
            }
            Ok(())
        }
        StoreCommand::Verify => {
            writeln!(
                out,
                "{source}: {} records can be read, {} are set aside",
                holdings.records.len(),
                holdings.set_aside.len()
            )?;
            if !holdings.open {
                bail!("the store is not open: the agent's log says why");
            }
            if !holdings.set_aside.is_empty() {
                bail!(
                    "damaged or from a later release, kept and not used: {}",
                    holdings.set_aside.join(", ")
                );
            }
            Ok(())
        }
    }
}

/// What the running agent says; none when there is no agent.
async fn ask(address: SocketAddr) -> anyhow::Result<Option<Holdings>> {
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let uri = format!("http://{address}{PATH}").parse()?;
    let answer = match tokio::time::timeout(TIMEOUT, client.get(uri)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_connect() => return Ok(None),
        Ok(Err(error)) => return Err(error).context("the agent's answer is incomplete"),
        Err(_) => bail!("the agent at {address} did not answer within {TIMEOUT:?}"),
    };
    if !answer.status().is_success() {
        bail!(
            "the agent at {address} answered with status {}",
            answer.status()
        );
    }
    let body = tokio::time::timeout(TIMEOUT, Limited::new(answer, MAX_ANSWER).collect())
        .await
        .context("the agent's answer takes too long")?
        .map_err(|error| anyhow::anyhow!("the agent's answer is incomplete: {error}"))?;
    Ok(Some(serde_json::from_slice(&body.to_bytes())?))
}

fn read(path: &Path) -> anyhow::Result<Holdings> {
    if !path.exists() {
        bail!(
            "there is no store at {}; use --store to name its folder",
            path.display()
        );
    }
    let (_store, contents) = Store::open(path)?;
    Ok(Holdings {
        open: true,
        records: contents.records,
        set_aside: contents.aside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Batch,
        testing::{record, shell},
    };
    use clap::Parser;

    async fn printed(command: StoreCommand, folder: &Path) -> anyhow::Result<String> {
        // Nobody listens on the port of discarded packets.
        let flags = ["curfew-agent", "--debug-listen", "127.0.0.1:9", "--store"];
        let args = Args::parse_from(flags.into_iter().chain(folder.to_str()));
        let mut out = Vec::new();
        run(command, &args, &mut out).await?;
        Ok(String::from_utf8(out)?)
    }

    #[tokio::test]
    async fn reads_the_files_where_no_agent_runs() {
        let folder = tempfile::tempdir().unwrap();
        let error = printed(StoreCommand::Dump, folder.path())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("there is no store"), "{error}");

        let (store, _) = Store::open(&recovery::path(folder.path())).unwrap();
        let batch = Batch::from([("u".to_owned(), Some(record("u", shell(0))))]);
        store.commit(&batch).unwrap();
        drop(store);
        let line = printed(StoreCommand::Dump, folder.path()).await.unwrap();
        let dumped: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(dumped, record("u", shell(0)));
        let verdict = printed(StoreCommand::Verify, folder.path()).await.unwrap();
        assert!(
            verdict.contains("1 records can be read, 0 are set aside"),
            "{verdict}"
        );
    }
}
