//! Which container a process belongs to, by the paths of its cgroups.
//!
//! The container's ID is all that is needed: the API server says to which pod it belongs. It is one component of the
//! path, with or without what the runtime writes around it. What stands above it depends on the driver, the kubelet's
//! settings and the cgroup namespace of the reader, and below it a container may have cgroups of its own.

/// What a runtime writes before the ID, where systemd keeps the cgroups. CRI-O's monitor (`crio-conmon-…`) is beside the
/// container, not in it.
const PREFIXES: &[&str] = &["cri-containerd-", "crio-", "docker-", "cri-dockerd-"];

/// How many digits an ID has with all known runtimes.
const LENGTH: usize = 64;

/// The most IDs that a process may have: those of containers within containers.
const MAX_IDS: usize = 4;

/// What the cgroups of a process say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// What looks like the ID of a container, outermost first.
    pub(crate) ids: Vec<String>,
    /// The innermost pod, as the kubelet calls it.
    pub(crate) pod: Option<String>,
}

/// Reads `/proc/PID/cgroup`: of version 2, of version 1, and of both at once.
pub(crate) fn placement(text: &[u8]) -> Placement {
    let mut found = Placement::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(path) = line.splitn(3, |byte| *byte == b':').nth(2) else {
            continue;
        };
        for component in path.split(|byte| *byte == b'/') {
            let Ok(component) = std::str::from_utf8(component) else {
                continue;
            };
            if let Some(id) = container(component) {
                if found.ids.len() < MAX_IDS && !found.ids.iter().any(|known| known == id) {
                    found.ids.push(id.to_owned());
                }
            } else if let Some(pod) = pod(component) {
                found.pod = Some(pod);
            }
        }
    }
    found
}

fn container(component: &str) -> Option<&str> {
    // CRI-O and containerd with a colon: `system.slice:cri-containerd:ID`, when the driver of the runtime is not the kubelet's.
    let component = component.rsplit(':').next()?;
    let id = component.strip_suffix(".scope").unwrap_or(component);
    let id = PREFIXES
        .iter()
        .find_map(|prefix| id.strip_prefix(prefix))
        .unwrap_or(id);
    let is_id = id.len() == LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

/// `podUID`, or `kubepods-burstable-podUID.slice` with underscores in the UID.
fn pod(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.rsplit_once("-pod")?.1,
    };
    let is_uid = uid.len() >= 32
        && uid
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b"-_".contains(&b));
    is_uid.then(|| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "8f6d6c5e-0f2b-4a55-9d6b-0a2f4f0f7c11";

    #[test]
    fn every_driver_and_runtime_is_known() {
        let slice = UID.replace('-', "_");
        for path in [
            format!("0::/kubepods/burstable/pod{UID}/{ID}"),
            format!("0::/kubepods/pod{UID}/{ID}"),
            format!(
                "12:memory:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}\n0::/\n"
            ),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope"),
            format!("0::/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope/container"),
            format!("0::/system.slice/kubelet.service/custom/kubepods/pod{UID}/{ID}/init.scope"),
            // A kubelet with a cgroupRoot, and a reader in a cgroup namespace of its own.
            format!("0::/../../kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"),
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/docker-{ID}.scope"
            ),
            format!(
                "3:cpu,cpuacct:/system.slice/containerd.service/kubepods-besteffort-pod{slice}.slice:cri-containerd:{ID}"
            ),
        ] {
            let found = placement(path.as_bytes());
            assert_eq!(found.ids, [ID], "{path}");
            if !path.contains("slice:") {
                assert_eq!(found.pod.as_deref(), Some(UID), "{path}");
            }
        }
    }

    #[test]
    fn a_reader_in_the_same_pod_sees_only_the_id() {
        let found = placement(format!("0::/../cri-containerd-{ID}.scope").as_bytes());
        assert_eq!(found.ids, [ID]);
        assert_eq!(found.pod, None);
    }

    #[test]
    fn containers_in_containers_have_each_id() {
        let text = format!("0::/system.slice/docker-{OTHER}.scope/kubepods/pod{UID}/{ID}");
        assert_eq!(placement(text.as_bytes()).ids, [OTHER, ID]);
    }

    #[test]
    fn others_are_in_no_container() {
        for text in [
            "0::/",
            "0::/system.slice/ssh.service",
            "0::/060dde73cf71be0b6d68084342182d6c",
            "0::/user.slice/user-0.slice/session-1.scope",
            &format!("0::/kubepods.slice/kubepods-pod{UID}.slice/crio-conmon-{ID}.scope"),
            "nothing",
            "",
        ] {
            assert!(placement(text.as_bytes()).ids.is_empty(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_all_is_bounded(text in "([0-9]:[a-z]*:)?(/|pod|-pod|[a-f0-9]{64}|\\.slice|crio-|:|\n|é){0,60}") {
            prop_assert!(placement(text.as_bytes()).ids.len() <= MAX_IDS);
        }

        #[test]
        fn bytes_do_not_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = placement(&text);
        }
    }
}
