//! The definitions that are applied to clusters are those of the types that read the objects.

#[test]
fn the_manifest_is_current() {
    let written = include_str!("../../manifests/base/crd.yaml");
    let head = include_str!("../examples/head.txt");
    let definitions = curfew_crd::definitions();
    let definitions = definitions.map(|one| serde_saphyr::to_string(&one).unwrap());
    assert!(
        written == format!("{head}{}", definitions.join("---\n")),
        "manifests/base/crd.yaml is not what the types say; run `make crd`"
    );
}
