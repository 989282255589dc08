#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| curfew_fuzz_targets::certificate(bytes));
