//! Which namespaces Curfew leaves alone.

use std::collections::BTreeMap;

/// The namespace that Curfew runs in. It cannot be chosen: the admission policies trust the accounts in it by
/// name, and a copy of Curfew elsewhere would be one that they do not know.
pub const OWN: &str = "curfew";
/// The namespace of Kubernetes itself.
pub const SYSTEM: &str = "kube-system";
/// The label of namespaces that are left alone; its value is [`EXEMPT`].
pub const LABEL: &str = "curfew.dev/exempt";
/// The value of [`LABEL`].
pub const EXEMPT: &str = "true";

/// Why interactions with the pods of a namespace are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exempt {
    /// It is Curfew's own or that of Kubernetes.
    ByName,
    /// It has the [label](LABEL).
    ByLabel,
}

/// Whether a namespace with these labels is left alone, and why.
pub fn exempt(namespace: &str, labels: &BTreeMap<String, String>) -> Option<Exempt> {
    if [OWN, SYSTEM].contains(&namespace) {
        Some(Exempt::ByName)
    } else if labels.get(LABEL).is_some_and(|value| value == EXEMPT) {
        Some(Exempt::ByLabel)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_by_name_and_others_by_the_label() {
        let labelled = |value: &str| BTreeMap::from([(LABEL.to_owned(), value.to_owned())]);
        for (namespace, labels, expected) in [
            ("shop", BTreeMap::new(), None),
            ("curfew", BTreeMap::new(), Some(Exempt::ByName)),
            ("kube-system", BTreeMap::new(), Some(Exempt::ByName)),
            ("shop", labelled("true"), Some(Exempt::ByLabel)),
            ("shop", labelled("false"), None),
            ("shop", labelled("True"), None),
        ] {
            assert_eq!(
                exempt(namespace, &labels),
                expected,
                "{namespace} {labels:?}"
            );
        }
    }
}
