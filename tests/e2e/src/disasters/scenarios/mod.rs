//! The disasters, one kind a file.

mod calm;
mod cuts;
mod leaving;
mod node;
mod objects;
mod outage;
mod restore;
mod stopped;
mod store;
mod throttled;

use super::Scenario;

/// All of them, in their order.
pub fn all() -> Vec<&'static Scenario> {
    [
        calm::ALL,
        outage::ALL,
        restore::ALL,
        store::ALL,
        stopped::ALL,
        throttled::ALL,
        cuts::ALL,
        leaving::ALL,
        objects::ALL,
        node::ALL,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_namespaces_and_unlike() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(plain) && name.len() < 40, "{name}");
        }
    }
}
