//! The scripted API server as an agent meets it.

pub(crate) use curfew_api_server::{Answer, ApiServer, Asked, Target};
use curfew_runtime::{client::patience, reach::Reachability};
use kube::{Client, client::ClientBuilder};

/// One that asks Curfew's webhook about evictions.
pub(crate) fn guarded() -> ApiServer {
    let server = ApiServer::new();
    // The API server itself would evict whichever pod has the name.
    server.admission(|asked| {
        let uid = asked.body.pointer("/deleteOptions/preconditions/uid");
        (asked.is_eviction() && uid.is_none()).then(|| Answer::status(400, "the UID is missing"))
    });
    server
}

/// A client with the layers that the agent's has.
pub(crate) fn client(server: &ApiServer, reach: &Reachability) -> Client {
    ClientBuilder::new(server.clone(), "default")
        .with_layer(&patience())
        .with_layer(&reach.layer())
        .build()
}
