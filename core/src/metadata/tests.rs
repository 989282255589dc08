use super::*;

#[test]
fn a_hold_gives_a_reason_that_can_be_seen() {
    let held = |reason: &str| hold(&[(HOLD.to_owned(), reason.to_owned())].into());
    for blank in ["", " ", "\u{202e}\u{2066}", "\u{200b} \n"] {
        assert_eq!(held(blank), None, "{blank:?}");
    }
    assert_eq!(held("evidence").unwrap().reason, "evidence");
}
