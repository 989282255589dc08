//! `curfew-agent self-test`: whether the store and the cryptography work on this machine, without a cluster.
//!
//! It owns a folder of its own beside the store, which it removes. Both depend on the processor, the kernel or the file
//! system, so an image for another processor is tested with it, and so is a node whose file system is in doubt.

use std::{fs, io::Write, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use curfew_core::{
    Record,
    identity::{WEBHOOK, agent},
    interaction::{Command, Interaction, Kind},
    pod_id::PodId,
    record::RecordedInteraction,
    terms::{Action, Enforcement, OnEvidence, Terms},
};
use curfew_runtime::tls::{Leaf, Trust};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

use crate::store::{Batch, Store};

/// The name of the node in the test.
const NODE: &str = "self-test";
/// A handshake of TLS 1.3 takes fewer turns.
const MOST_TURNS: usize = 10;

/// Tests this machine with a store in a new folder below `folder`, and prints what works.
///
/// # Errors
/// When something does not work.
pub(crate) fn run(folder: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let own = folder.join(format!("self-test-{}", std::process::id()));
    fs::create_dir_all(&own).with_context(|| format!("{} cannot be made", own.display()))?;
    let tested = store(&own.join("records"));
    fs::remove_dir_all(&own).with_context(|| format!("{} cannot be removed", own.display()))?;
    tested.with_context(|| format!("the store does not work in {}", folder.display()))?;
    writeln!(out, "store: a record was written, synced and read back")?;
    handshake().context("mutual TLS does not work")?;
    writeln!(out, "TLS: a key was made and a handshake completed")?;
    writeln!(out, "ok")?;
    Ok(())
}

fn store(path: &Path) -> anyhow::Result<()> {
    let record = Record::new(
        PodId {
            namespace: "default".to_owned(),
            name: NODE.to_owned(),
            uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        },
        interaction(),
    );
    let (store, _) = Store::open(path)?;
    store.commit(&Batch::from([(
        record.pod.uid.clone(),
        Some(record.clone()),
    )]))?;
    drop(store);
    let (_store, contents) = Store::open(path)?;
    ensure!(
        contents.records == [record],
        "what was read is not what was written: {contents:?}"
    );
    Ok(())
}

fn interaction() -> RecordedInteraction {
    let minute = std::time::Duration::from_secs(60);
    RecordedInteraction {
        interaction: Interaction {
            time: Timestamp::UNIX_EPOCH,
            kind: Kind::Exec,
            user: NODE.into(),
            container: None,
            command: Command::new(["true"]),
            stdin: false,
            tty: false,
            request: NODE.to_owned(),
        },
        terms: Terms {
            action: Action::Evict,
            ttl: minute,
            max_extension: minute,
            max_hold: minute,
            exemption: None,
            enforcement: Enforcement::Enforce,
            on_evidence: OnEvidence::default(),
        },
        policy: None,
        irregular: None,
    }
}

/// The webhook and the agent in one process, without a network.
fn handshake() -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let trust = Trust::from_pem(&params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str, purpose| -> anyhow::Result<Leaf> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf::new(certificate.der().clone(), key.serialize_der())?)
    };
    let name = agent(NODE);
    let server = leaf(&name, ExtendedKeyUsagePurpose::ServerAuth)?;
    let client = leaf(WEBHOOK, ExtendedKeyUsagePurpose::ClientAuth)?;
    let mut server = ServerConnection::new(Arc::new(server.serve_only(trust.clients(WEBHOOK)?)?))?;
    let mut client =
        ClientConnection::new(Arc::new(client.call(&trust)?), ServerName::try_from(name)?)?;
    for _ in 0..MOST_TURNS {
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
        let mut wire = Vec::new();
        client.write_tls(&mut wire)?;
        read(&wire, |bytes| server.read_tls(bytes))?;
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        read(&wire, |bytes| client.read_tls(bytes))?;
        client.process_new_packets()?;
    }
    anyhow::bail!("the handshake does not end")
}

fn read(
    mut wire: &[u8],
    mut take: impl FnMut(&mut &[u8]) -> std::io::Result<usize>,
) -> std::io::Result<()> {
    while !wire.is_empty() {
        take(&mut wire)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        run(folder.path(), &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with("\nok\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = run(file.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("cannot be made"), "{error}");
    }
}
