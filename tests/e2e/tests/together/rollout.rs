//! Every command of `docs/rollout.md`, as it stands there, in a folder with the files that the page shows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Namespace, TestCluster, Workload, policies::long_ttl, rights, shell, within_namespace,
};
use curfew_monitoring::{read, root, runbooks};
use kube::ResourceExt;

const PAGE: &str = "docs/rollout.md";

/// What would disturb the tests beside this one. The API server is asked whether it would do it.
const ONLY_ASKED: [&str; 5] = [
    "kubectl apply ",
    "kubectl label namespace ",
    "kubectl -n curfew set env ",
    "kubectl -n curfew patch ",
    "kubectl -n curfew delete ",
];

/// What only names a command.
const NAMED: [&str; 2] = ["kubectl cp", "kubectl pi extend"];

/// A folder with the kustomization of `docs/install.md` and the policy of the page. It goes at the end.
struct Folder(PathBuf);

impl Folder {
    fn prepare(namespace: &Namespace) -> Result<Self> {
        let folder = root()?.join("target/e2e").join(&namespace.name);
        fs::create_dir_all(&folder)?;
        let here = Self(folder);
        let kustomization = block(&read("docs/install.md")?, "# kustomization.yaml")?
            .replace("https://github.com/curfew-dev/curfew//", "../../../")
            .replace(concat!("?ref=v", env!("CARGO_PKG_VERSION")), "");
        fs::write(here.0.join("kustomization.yaml"), kustomization)?;
        let policy = block(&read(PAGE)?, "# enforce.yaml")?;
        let policy = policy.replace("NAMESPACE", &namespace.name);
        fs::write(here.0.join("enforce.yaml"), policy)?;
        // The page names examples by their paths in the tree.
        std::os::unix::fs::symlink("../../../manifests", here.0.join("manifests"))?;
        Ok(here)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The YAML block that begins with this line.
fn block(page: &str, first: &str) -> Result<String> {
    let (_, rest) = page
        .split_once(&format!("```yaml\n{first}\n"))
        .with_context(|| format!("no block begins with {first}"))?;
    let (block, _) = rest.split_once("```").context("the block has no end")?;
    Ok(block.to_owned())
}

#[tokio::test]
async fn every_command_does_what_the_page_says() {
    within_namespace("rollout", async |namespace| {
        let cluster = &namespace.cluster;
        let folder = Folder::prepare(namespace)?;
        let (_, built, _) = shell::run(cluster, "kubectl kustomize .", Some(&folder.0)).await?;
        let is_dry = built.contains("name: CURFEW_DEFAULT_ENFORCEMENT\n          value: DryRun");
        ensure!(is_dry, "what is installed first evicts: {built}");

        // Somebody for whom a policy is suggested, and a pod that people hold.
        long_ttl(namespace).await?;
        let pod = namespace.run_pod(&Workload::new("web")).await?;
        let (_, runner) = rights::runner(namespace).await?;
        for run in 0..4 {
            runner
                .ok(&["exec", "web", "--", "echo", &run.to_string()])
                .await?;
        }
        let commands = runbooks::commands_of_page(PAGE)?;
        ensure!(commands.len() > 20, "only {} commands", commands.len());
        let mut wrong = Vec::new();
        for command in commands
            .iter()
            .filter(|command| !NAMED.contains(&&*command.line))
        {
            let line = command
                .line
                .replace("NAMESPACE", &namespace.name)
                .replace("POD", &pod.name_any());
            if let Err(error) = try_out(cluster, &folder.0, line.clone()).await {
                wrong.push(format!("{line}: {error:#}"));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await;
}

async fn try_out(cluster: &TestCluster, folder: &Path, mut line: String) -> Result<()> {
    if ONLY_ASKED.iter().any(|asked| line.starts_with(asked)) {
        line.push_str(" --dry-run=server");
    }
    let (code, out, err) = shell::run(cluster, &line, Some(folder)).await?;
    ensure!(code == 0, "exit status {code}: {err}");
    let redirected = line.contains(" > ");
    ensure!(
        redirected || !out.is_empty() || !err.is_empty(),
        "it prints nothing"
    );
    Ok(())
}
