//! Builds what tch does not pass on of libtorch, against the libtorch that tch is built against.

use std::env;
use std::path::PathBuf;

const SOURCES: [&str; 2] = ["native/memory.cpp", "native/operations.cpp"];

fn main() {
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    if env::var_os("CARGO_FEATURE_TCH").is_some() {
        let root = variable("LIBTORCH_INCLUDE").or_else(|| variable("LIBTORCH"));
        let root = PathBuf::from(root.expect("LIBTORCH is not set: run `make setup`"));
        let abi = variable("LIBTORCH_CXX11_ABI").unwrap_or_else(|| "1".to_owned());
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .include(root.join("include"))
            .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
            // libtorch's headers are not ours to mend.
            .warnings(false)
            .files(SOURCES)
            .compile("remaster_operations");
    }
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok()
}
