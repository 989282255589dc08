//! Brings the cluster up: a list of steps, each of which does nothing where nothing is to be done.

use std::{thread, time::Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    cgroup,
    cluster::components,
    control_plane, images,
    ip_family::IpFamily,
    kube_binary::{self, KubeBinary},
    kubernetes::{self, Minor},
    layout::{self, Checkout, NODES},
    network, node, packages, pki, preflight,
    process::{self, Fate, Process},
    progress,
    release::Release,
    rust_binaries,
    state::{self, Lock, State},
    teardown,
};

/// Brings up the cluster of this checkout, with Curfew or `bare`, on this minor of Kubernetes or the default, with
/// addresses of this family.
pub fn run(bare: bool, minor: Option<Minor>, family: IpFamily) -> Result<()> {
    let began = Instant::now();
    preflight::check_privileges()?;
    let checkout = Checkout::find()?;
    preflight::check_tools()?;
    let _lock = Lock::take()?;
    let mut state = take_over(&checkout)?;
    packages::ensure()?;

    let kube = KubeBinary::find(&checkout, minor)?;
    if !state.kubernetes.is_empty() && state.kubernetes != kube.key {
        bail!(
            "the running cluster is made of another Kubernetes than this checkout's {}: run `make down` first{}",
            kube.minor,
            running_minor(&checkout, &state)
        );
    }
    check_family(&state, family)?;
    preflight::check_disk(kube.is_missing())?;
    if !any_started() {
        preflight::check_network(family)?;
    }
    state
        .root_controllers
        .extend(cgroup::missing_root_controllers()?);
    state.save()?;
    cgroup::ensure()?;
    cgroup::enter(cgroup::TOOLS)?;

    kube.ensure()?;
    let test_images = images::build_test_images(&checkout)?;
    let release = (!bare).then(|| Release::build(&checkout)).transpose()?;
    if !bare {
        let plugin = rust_binaries::build_plugin(&checkout)?;
        let installed = checkout.bin_dir().join("kubectl-pi");
        rust_binaries::copy_if_changed(&plugin, &installed)?;
        // kubectl completes the plugin's words by a program of this name.
        kube_binary::link(&installed, &checkout.bin_dir().join("kubectl_complete-pi"))?;
    }

    kube.install(&[&control_plane::PARTS[..], &["kubelet", "kubectl"]].concat())?;
    state.kubernetes = kube.key;
    state.ip_family = family;
    state.save()?;
    if !all_alive() {
        progress::step("Starting the cluster");
    }
    pki::ensure(family)?;
    network::ensure(family)?;
    hand_over(&checkout)?;
    start(family)?;
    images::import(&test_images)?;
    for node in NODES {
        node::ensure_kubelet(node, family)?;
    }
    NODES
        .into_iter()
        .try_for_each(|node| node::wait_until_ready(node, family))?;
    if let Some(release) = release {
        release.deploy()?;
    }
    greet(&checkout, began);
    Ok(())
}

/// Refuses to go on with a cluster of the other family: what runs has its addresses, and so have the certificates.
fn check_family(state: &State, family: IpFamily) -> Result<()> {
    let running = state.ip_family;
    if !state.kubernetes.is_empty() && running != family {
        bail!(
            "the running cluster has {running} addresses, and no {family} ones: run `make down` first, or go on with \
             IP_FAMILY={running}"
        );
    }
    Ok(())
}

/// What to do instead, if the cluster is of a minor that this checkout knows.
fn running_minor(checkout: &Checkout, state: &State) -> String {
    let minors = kubernetes::minors(checkout).unwrap_or_default();
    let is_it = |minor: &Minor| {
        KubeBinary::find(checkout, Some(*minor)).is_ok_and(|kube| kube.key == state.kubernetes)
    };
    match minors.into_iter().find(is_it) {
        Some(minor) => format!(", or go on with KUBERNETES={minor}"),
        None => String::new(),
    }
}

/// The record to go on with: the one of an interrupted run of ours, or a new one when there is none or nothing of it
/// runs any more.
fn take_over(checkout: &Checkout) -> Result<State> {
    let Some(state) = State::load()? else {
        if teardown::is_needed() {
            teardown::run(&State::default())?;
        }
        return State::new(checkout.root());
    };
    let components = components();
    let fates: Vec<_> = components.iter().map(|name| Process::fate(name)).collect();
    let mine = state.owner == checkout.root();
    let owner = state.owner.display();
    match course(mine, state.outlived()?, &fates) {
        Course::GoOn => return Ok(state),
        Course::Occupied => bail!(
            "the cluster of {owner} is running on this machine: run `make down`, here or there, to end it first"
        ),
        Course::Broken(part) => bail!(
            "{}\nrun `make down` and start again",
            process::obituary(components.get(part).map_or("a part", |name| name))
        ),
        Course::StartAnew if mine => {
            progress::step("No part of the cluster is running; starting it again");
        }
        Course::StartAnew => {
            progress::step(&format!(
                "Cleaning up what is left of the cluster of {owner}"
            ));
        }
    }
    teardown::run(&state)?;
    State::new(checkout.root())
}

/// What follows from a cluster that is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It is ours; what is missing of it is started.
    GoOn,
    /// It is another checkout's, and runs.
    Occupied,
    /// It is ours, and one of its parts has died beside others that run: people should see why.
    Broken(usize),
    /// Nothing of it runs: the machine was restarted, or everything was killed.
    StartAnew,
}

fn course(mine: bool, outlived: bool, fates: &[Fate]) -> Course {
    let dead = fates.iter().position(|fate| *fate == Fate::Dead);
    let alive = fates.contains(&Fate::Alive);
    match (mine, dead) {
        _ if outlived => Course::StartAnew,
        (false, _) if alive => Course::Occupied,
        (false, _) => Course::StartAnew,
        (true, Some(part)) if alive => Course::Broken(part),
        (true, Some(_)) => Course::StartAnew,
        (true, None) => Course::GoOn,
    }
}

fn any_started() -> bool {
    components()
        .iter()
        .any(|name| Process::fate(name) != Fate::Absent)
}

fn all_alive() -> bool {
    components()
        .iter()
        .all(|name| Process::fate(name) == Fate::Alive)
}

/// Starts the control plane and both container runtimes at the same time: they need nothing of each other.
fn start(family: IpFamily) -> Result<()> {
    thread::scope(|scope| {
        let runtimes = NODES.map(|node| scope.spawn(move || node::ensure_runtime(node, family)));
        control_plane::ensure(family)?;
        for runtime in runtimes {
            runtime
                .join()
                .map_err(|_| anyhow!("starting a container runtime panicked"))??;
        }
        Ok(())
    })
}

/// Leaves in the checkout what people and tests use.
fn hand_over(checkout: &Checkout) -> Result<()> {
    let admin = std::fs::read(pki::kubeconfig("admin"))
        .context("the administrator's kubeconfig cannot be read")?;
    if std::fs::read(checkout.kubeconfig()).ok().as_ref() != Some(&admin) {
        state::replace(&checkout.kubeconfig(), &admin)?;
    }
    std::fs::create_dir_all(checkout.bin_dir())?;
    kube_binary::link(
        &layout::machine("bin/kubectl"),
        &checkout.bin_dir().join("kubectl"),
    )?;
    kube_binary::link(
        &layout::machine("logs"),
        &checkout.cluster_dir().join("logs"),
    )
}

fn greet(checkout: &Checkout, began: Instant) {
    let cluster = checkout.cluster_dir();
    progress::step(&format!(
        "The cluster is up ({})",
        progress::clock(began.elapsed())
    ));
    for line in [
        format!("export KUBECONFIG={}", checkout.kubeconfig().display()),
        format!("export PATH={}:$PATH", checkout.bin_dir().display()),
        "kubectl get nodes".to_owned(),
        String::new(),
        format!("logs: {}/logs    end it: make down", cluster.display()),
    ] {
        progress::note(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Course::{Broken, GoOn, Occupied, StartAnew},
        Fate::{Absent, Alive, Dead},
        IpFamily::{IPv4, IPv6},
        State, check_family, course,
    };

    #[test]
    fn a_cluster_of_the_other_family_is_not_gone_on_with() {
        let mut state = State::default();
        // Nothing is made yet.
        check_family(&state, IPv6).unwrap();
        state.kubernetes = "k".into();
        check_family(&state, IPv4).unwrap();
        let error = check_family(&state, IPv6).unwrap_err().to_string();
        assert!(error.contains("IPv4 addresses"), "{error}");
        assert!(error.ends_with("go on with IP_FAMILY=IPv4"), "{error}");
    }

    #[test]
    fn a_cluster_of_ours_is_gone_on_with_while_nothing_of_it_died() {
        for fates in [[Alive, Alive], [Alive, Absent], [Absent, Absent]] {
            assert_eq!(course(true, false, &fates), GoOn, "{fates:?}");
        }
    }

    #[test]
    fn a_cluster_of_which_nothing_runs_is_started_anew() {
        for fates in [[Dead, Dead], [Dead, Absent]] {
            assert_eq!(course(true, false, &fates), StartAnew, "{fates:?}");
            assert_eq!(course(false, false, &fates), StartAnew, "{fates:?}");
        }
        assert_eq!(course(false, false, &[Absent, Absent]), StartAnew);
    }

    #[test]
    fn after_a_restart_of_the_machine_all_of_it_is_gone() {
        for mine in [true, false] {
            // A process of now may have the pid of one of then.
            for fates in [[Dead, Dead], [Alive, Dead], [Alive, Alive]] {
                assert_eq!(course(mine, true, &fates), StartAnew, "{fates:?}");
            }
        }
    }

    #[test]
    fn a_part_that_died_beside_others_is_told() {
        assert_eq!(course(true, false, &[Alive, Dead, Dead]), Broken(1));
    }

    #[test]
    fn a_cluster_of_others_that_runs_is_left_alone() {
        for fates in [[Alive, Alive], [Dead, Alive]] {
            assert_eq!(course(false, false, &fates), Occupied, "{fates:?}");
        }
    }
}
