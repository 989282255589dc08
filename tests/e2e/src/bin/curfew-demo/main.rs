//! `make demo`: Curfew at work on the real cluster, from an exec to the eviction.
//!
//! Each thing that is shown is checked, too: when any of the story does not happen, the exit status
//! says so.

mod screen;
mod story;

use std::process::ExitCode;

use screen::Screen;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match story::tell(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
