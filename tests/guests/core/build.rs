//! Keeps the linker from its last step, making a component of the module.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=--skip-wit-component");
}
