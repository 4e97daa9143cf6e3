#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hairpin_tests::fuzz::switch::run(bytes));
