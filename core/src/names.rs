//! Names as the API server accepts them. A client of the API server puts names into paths and does not
//! escape them: a name with a slash in it would reach another resource. So each name that comes from
//! outside is checked here before.

/// The longest name of a namespace or of a container, in bytes.
const MAX_LABEL: usize = 63;
/// The longest name of a pod, a node or a PodDisruptionBudget, in bytes.
const MAX_SUBDOMAIN: usize = 253;

/// Whether this is a label as RFC 1123 defines it: the names of namespaces and containers are.
pub fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && has_form_of_label(name)
}

/// Whether this is a subdomain as RFC 1123 defines it: the names of pods, nodes and budgets are.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_SUBDOMAIN && name.split('.').all(has_form_of_label)
}

fn has_form_of_label(name: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        for name in ["shop", "cart-1", "0", &"a".repeat(63)] {
            assert!(is_label(name) && is_subdomain(name), "{name}");
        }
        for name in ["cart.v1", &"a".repeat(253)] {
            assert!(!is_label(name) && is_subdomain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../..",
            "a..b",
            "a.",
            "-a",
            "a-",
            "Cart",
            "kärt",
            "a/status",
            "a%2fstatus",
            "a?watch=1",
            "a#b",
            "a b",
            "a\n",
            "a\0",
            &"a".repeat(254),
        ] {
            assert!(!is_label(name) && !is_subdomain(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_stays_within_its_part_of_a_path(name in "\\PC{0,20}|[a-z0-9./%?#-]{0,20}") {
            if is_subdomain(&name) {
                prop_assert!(name.bytes().all(|byte| b"abcdefghijklmnopqrstuvwxyz0123456789-.".contains(&byte)));
                prop_assert!(name != "." && name != ".." && !name.is_empty());
            }
        }
    }
}
