//! `verify` on stores of Java brokers, sound and damaged, and beside a store that is being written.

mod common;

use std::{path::Path, sync::Arc};

use common::{Fixture, Random};
use store::{
    RealDisk,
    inspect::{FindingKind, StoreView, Verified, ViewOptions, Watch, verify},
};

struct Still;

impl Watch for Still {
    fn progress(&mut self, _: u64, _: u64) {}
    fn pause(&mut self) {}
}

const FIXTURES: [&str; 4] = ["java-5.3.3-clean", "java-5.3.3-killed", "java-5.3.3-slave", "java-5.5.0-clean"];

fn check(root: &Path, options: &ViewOptions) -> Verified {
    let view = StoreView::open(Arc::new(RealDisk), root, options.clone()).unwrap();
    verify(&view, &mut Still).unwrap()
}

fn told(found: &Verified) -> String {
    let list: Vec<_> = found.findings.list().iter().map(|finding| finding.text.as_str()).collect();
    format!("{:?}\n{}\nnotes:\n{}", found.findings.counts(), list.join("\n"), found.notes.join("\n"))
}

#[test]
fn stores_of_java_are_sound() {
    for name in FIXTURES {
        let fixture = Fixture::unpack(name);
        let found = check(&fixture.root(), &ViewOptions::default());
        assert!(found.findings.is_empty(), "{name}: {}", told(&found));
        println!("{name}: {found:?}");
    }
}
