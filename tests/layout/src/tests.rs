//! That each rule finds what breaks it.

use super::*;

fn of(files: &[(&str, &str)]) -> Vec<Source> {
    let source = |(path, text): &(&str, &str)| Source::new(path, text);
    files.iter().map(source).collect()
}

fn rooms(files: &[(&str, &str)], room: &str) -> Vec<String> {
    let imports = imports(&of(files));
    imports[room].iter().cloned().collect()
}

#[test]
fn a_circle_is_found_and_told_in_its_order() {
    let files = [
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a/mod.rs", "use crate::b::One;\n"),
        (
            "b.rs",
            "pub(crate) use crate::{\n    c::{Two, Three},\n};\n",
        ),
        ("c/deep/mod.rs", "use super::super::a;\n"),
    ];
    assert_eq!(
        circle(&imports(&of(&files))),
        Some(vec!["a".into(), "b".into(), "c".into()])
    );
    assert_eq!(circle(&imports(&of(&files[..3]))), None, "it ends in c");
}

#[test]
fn a_path_in_the_code_counts_like_a_use() {
    let files = [
        (
            "a.rs",
            "fn one() {\n    crate::b::two();\n    other_crate::c::x();\n}\n",
        ),
        ("b.rs", ""),
        ("c.rs", ""),
    ];
    assert_eq!(rooms(&files, "a"), ["b"]);
}

#[test]
fn each_tree_of_a_group_counts() {
    let text = "use crate::{\n    b::{self, deep::{One, Two}},\n    c,\n    Root,\n};\nuse super::d::Four;\n";
    let files = [("a.rs", text), ("b.rs", ""), ("c.rs", ""), ("d.rs", "")];
    assert_eq!(rooms(&files, "a"), ["b", "c", "d"]);
}

#[test]
fn what_stands_in_the_same_room_is_no_import() {
    let files = [
        (
            "a/mod.rs",
            "use self::inner::One;\nuse crate::a::inner::Two;\n",
        ),
        ("a/inner.rs", "use super::Three;\n"),
        ("b.rs", ""),
    ];
    assert_eq!(rooms(&files, "a"), [""; 0]);
}

#[test]
fn comments_and_tests_import_nothing() {
    let tested = "//! See [`crate::b`].\n#[cfg(test)]\nmod tests {\n    use crate::b::One;\n}\n";
    let files = [
        ("a.rs", tested),
        ("a/tests.rs", "use crate::b::One;\n"),
        ("b.rs", "use crate::a::Two;\n"),
    ];
    assert_eq!(circle(&imports(&of(&files))), None);
}

#[test]
fn a_type_with_the_name_of_another_is_found() {
    let files = [
        (
            "a.rs",
            "pub(crate) struct One {\n    two: u8,\n}\npub enum Two {}\n",
        ),
        (
            "b.rs",
            "struct One;\nimpl Trait for One {\n    type Two = u8;\n}\nfn two() {\n    enum Two {}\n}\n",
        ),
        ("b/tests.rs", "struct One;\n"),
    ];
    let found = repeated_types(&of(&files));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["One", "Two"]);
    assert_eq!(found["One"], ["a.rs", "b.rs"]);
}
