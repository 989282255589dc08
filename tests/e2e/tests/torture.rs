//! The crash harness, for a short time. `make torture` is the long one.

use curfew_e2e::{
    torture::{self, Settings},
    within_namespace,
};
use tokio::sync::Mutex;

/// Both take the whole cluster apart.
static TURN: Mutex<()> = Mutex::const_new(());

async fn short(test: &str, seed: u64) {
    let _turn = TURN.lock().await;
    within_namespace(test, async |namespace| {
        let settings = Settings {
            seed,
            kills: 8,
            execs: 30,
            talkative: false,
        };
        torture::run(namespace, settings).await?.passed()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost() {
    short("torture", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_with_another_seed() {
    short("torture-again", 11).await;
}
