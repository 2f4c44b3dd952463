use super::*;

fn table(acks: &[(&str, i64)]) -> AckTable {
    let mut table = AckTable::new();
    for (connection, (identity, offset)) in acks.iter().enumerate() {
        table.connect(identity, connection as u64);
        assert!(table.ack(identity, connection as u64, *offset, 1000));
    }
    table
}

#[test]
fn the_master_alone_is_one_copy() {
    let table = AckTable::new();
    assert_eq!(table.replicated(0, 1000), Some(1000));
    assert_eq!(table.replicated(1, 1000), Some(1000));
    assert_eq!(table.replicated(2, 1000), None);
}

#[test]
fn replicated_is_the_nth_highest() {
    let table = table(&[("a", 300), ("b", 900), ("c", 600)]);
    assert_eq!(table.replicated(2, 1000), Some(900));
    assert_eq!(table.replicated(3, 1000), Some(600));
    assert_eq!(table.replicated(4, 1000), Some(300));
    assert_eq!(table.replicated(5, 1000), None);
}

#[test]
fn one_replica_with_two_connections_counts_once() {
    let mut table = table(&[("a", 900)]);
    assert_eq!(table.connect("a", 7), Some(0));
    assert_eq!(table.replicated(2, 1000), None, "the newest connection has reported nothing yet");
    assert!(!table.ack("a", 0, 950, 1000), "the older connection no longer counts");
    assert!(table.ack("a", 7, 500, 1000));
    assert_eq!(table.replicated(2, 1000), Some(500));
    assert_eq!(table.replicated(3, 1000), None);
}

#[test]
fn the_end_of_an_older_connection_leaves_the_newer() {
    let mut table = table(&[("a", 900)]);
    table.connect("a", 7);
    table.ack("a", 7, 500, 1000);
    table.disconnect("a", 0);
    assert_eq!(table.replicated(2, 1000), Some(500));
    table.disconnect("a", 7);
    assert_eq!(table.replicated(2, 1000), None);
    table.disconnect("a", 7);
}

#[test]
fn nothing_beyond_the_masters_end_counts() {
    let mut table = table(&[("a", 900)]);
    assert!(!table.ack("a", 0, 1001, 1000));
    assert!(!table.ack("a", 0, -1, 1000));
    assert!(!table.ack("a", 0, i64::MAX, 1000));
    assert!(!table.ack("nobody", 0, 10, 1000));
    assert_eq!(table.replicated(2, 1000), Some(900));
    assert_eq!(table.replicated(2, 800), Some(800), "a master that was cut shorter");
}

#[test]
fn a_lower_ack_is_believed() {
    let mut table = table(&[("a", 900)]);
    assert!(table.ack("a", 0, 100, 1000));
    assert_eq!(table.replicated(2, 1000), Some(100));
}

#[test]
fn a_replica_that_has_reported_nothing_is_known_without_an_offset() {
    let mut table = table(&[("a", 900), ("b", 901)]);
    table.connect("silent", 9);
    assert_eq!(table.replicated(4, 1000), None);
    let names: Vec<_> = table.replicas().map(|(identity, replica)| (identity, replica.acked_offset)).collect();
    assert_eq!(names, [("a", Some(900)), ("b", Some(901)), ("silent", None)]);
}
