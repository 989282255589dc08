//! The definition that is applied to clusters is the one of the types that read the objects.

#[test]
fn the_manifest_is_current() {
    let written = include_str!("../../manifests/base/crd.yaml");
    let head = include_str!("../examples/head.txt");
    let definition = serde_saphyr::to_string(&curfew_crd::definition()).unwrap();
    assert!(
        written == format!("{head}{definition}"),
        "manifests/base/crd.yaml is not what the types say; run `make crd`"
    );
}
