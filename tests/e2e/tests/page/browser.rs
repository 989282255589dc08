//! A real Chromium with one tab, and all that it complains about.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use chromiumoxide::{
    Browser, BrowserConfig, Page,
    cdp::{
        browser_protocol::{
            emulation::MediaFeature,
            log::{EventEntryAdded, LogEntryLevel},
        },
        js_protocol::runtime::{ConsoleApiCalledType, EventConsoleApiCalled, EventExceptionThrown},
    },
    page::ScreenshotParams,
};
use curfew_cluster::packages;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: (u32, u32) = (1280, 1040);

/// The browser. It is killed when it is dropped.
pub(crate) struct Tab {
    page: Page,
    browser: Browser,
    complaints: Complaints,
    _profile: TempDir,
}

type Complaints = Arc<Mutex<Vec<String>>>;

impl Tab {
    pub(crate) async fn open() -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let config = BrowserConfig::builder()
            .chrome_executable(packages::browser()?)
            // Tests run as root, in whose name Chromium has no sandbox.
            .no_sandbox()
            .user_data_dir(profile.path())
            .window_size(SIZE.0, SIZE.1)
            .viewport(None)
            .launch_timeout(LIMIT)
            .request_timeout(LIMIT)
            .build()
            .map_err(|error| anyhow!(error))?;
        let (browser, mut handler) = Browser::launch(config)
            .await
            .context("Chromium does not start")?;
        tokio::spawn(async move { while handler.next().await.is_some() {} });
        let page = browser.new_page("about:blank").await?;
        let complaints = Complaints::default();
        page.enable_log().await?;
        page.enable_runtime().await?;
        listen(&page, &complaints, |entry: &EventEntryAdded| {
            let entry = &entry.entry;
            let bad = matches!(entry.level, LogEntryLevel::Warning | LogEntryLevel::Error);
            bad.then(|| format!("{}: {}", entry.source.as_ref(), entry.text))
        })
        .await?;
        listen(&page, &complaints, |call: &EventConsoleApiCalled| {
            let bad = matches!(
                call.r#type,
                ConsoleApiCalledType::Error | ConsoleApiCalledType::Warning
            );
            bad.then(|| format!("console: {:?}", call.args))
        })
        .await?;
        listen(&page, &complaints, |thrown: &EventExceptionThrown| {
            Some(format!("exception: {:?}", thrown.exception_details))
        })
        .await?;
        Ok(Self {
            page,
            browser,
            complaints,
            _profile: profile,
        })
    }

    /// Goes to an address, in a browser whose user prefers `light` or `dark`.
    pub(crate) async fn visit(&self, url: &str, scheme: &str) -> Result<()> {
        let features = vec![MediaFeature::new("prefers-color-scheme", scheme)];
        self.page.emulate_media_features(features).await?;
        self.page.goto(url).await?;
        Ok(())
    }

    /// The value of an expression in the page.
    pub(crate) async fn value<T: DeserializeOwned>(&self, expression: &str) -> Result<T> {
        let result = self.page.evaluate_expression(expression).await;
        let result = result.with_context(|| expression.to_owned())?;
        result.into_value().with_context(|| expression.to_owned())
    }

    /// Leaves a picture of what is in the window.
    pub(crate) async fn picture(&self, file: &Path) -> Result<()> {
        let picture = self.page.screenshot(ScreenshotParams::default()).await?;
        std::fs::write(file, picture).with_context(|| format!("no picture in {}", file.display()))
    }

    /// That nothing went wrong in the page by the standards of the browser.
    pub(crate) fn is_content(&self) -> Result<()> {
        let complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            complaints.is_empty(),
            "the browser complains: {complaints:#?}"
        );
        Ok(())
    }

    pub(crate) async fn close(mut self) -> Result<()> {
        self.browser.close().await?;
        self.browser.wait().await?;
        Ok(())
    }
}

/// Notes what of these events is a complaint.
async fn listen<E: chromiumoxide::cdp::IntoEventKind + Unpin + Send + Sync + 'static>(
    page: &Page,
    complaints: &Complaints,
    complaint: fn(&E) -> Option<String>,
) -> Result<()> {
    let mut events = page.event_listener::<E>().await?;
    let complaints = complaints.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let mut complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
            complaints.extend(complaint(&event));
        }
    });
    Ok(())
}
