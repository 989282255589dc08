//! What the rights of this process allow to see.

use crate::{
    facts::{Limitation, Mode},
    process::{Proc, capabilities},
};

/// `CAP_DAC_READ_SEARCH`: folders that are closed to others are read.
const DAC_READ_SEARCH: u32 = 2;

/// `CAP_SYS_PTRACE`: what the kernel says of processes of others is read.
const SYS_PTRACE: u32 = 19;

/// What cannot be seen, most important first.
pub(crate) fn limitations(proc: &Proc, mode: Mode) -> Vec<Limitation> {
    let mut found = Vec::new();
    let mut add = |clause: String| found.push(Limitation(clause));
    let own = proc.read_file("self/stat", 4096);
    let Some(own) = own.and_then(|text| crate::process::stat(&text)) else {
        add("the processes of the node cannot be read".to_owned());
        return found;
    };
    // In a PID namespace of its own a container's first process has no parent.
    if own.parent == 0 {
        add("only the agent's own processes are seen: the pod has no hostPID".to_owned());
    }
    let status = proc.read_file("self/status", 16 * 1024).unwrap_or_default();
    let has = capabilities(&status).unwrap_or(0);
    let lacks = |bit: u32| has & (1 << bit) == 0;
    if lacks(SYS_PTRACE) {
        add("mounts, files and programs of processes are not seen: the agent lacks the capability SYS_PTRACE".to_owned());
    // The parent is the runtime's process, and the first process of a node may be closed to all.
    } else if let (Err(error), Err(_)) = (proc.link(own.parent, "ns/mnt"), proc.link(1, "ns/mnt")) {
        add(format!(
            "processes cannot be looked into, by AppArmor or SELinux: {error}"
        ));
    }
    if mode == Mode::Files && lacks(DAC_READ_SEARCH) {
        add("folders that are closed to others are not seen: the agent lacks the capability DAC_READ_SEARCH".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeProc;

    fn found(parent: i32, capabilities: &str, mode: Mode) -> Vec<String> {
        let fake = FakeProc::new();
        fake.process(1, 0).write();
        fake.own(parent, capabilities);
        let found = limitations(fake.proc(), mode).into_iter();
        found.map(|limitation| limitation.0).collect()
    }

    #[test]
    fn with_all_rights_nothing_is_missed() {
        assert!(found(7, "0000000000080004", Mode::Files).is_empty());
        assert!(found(7, "0000000000080000", Mode::Processes).is_empty());
    }

    #[test]
    fn each_right_that_is_missing_is_said() {
        assert_eq!(found(0, "0", Mode::Files).len(), 3);
        assert!(found(0, "0000000000080004", Mode::Files)[0].contains("hostPID"));
        assert!(found(7, "0000000000000004", Mode::Files)[0].contains("SYS_PTRACE"));
        assert!(found(7, "0000000000080000", Mode::Files)[0].contains("DAC_READ_SEARCH"));
    }

    #[test]
    fn a_module_of_the_kernel_may_refuse_it() {
        let fake = FakeProc::new();
        fake.own(7, "0000000000080004");
        let found = limitations(fake.proc(), Mode::Files);
        assert!(found[0].0.contains("AppArmor"));
    }
}
