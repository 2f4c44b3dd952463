use super::*;

const POLICY: AckPolicy = AckPolicy {
    role: Role::SyncMaster,
    flush: FlushType::Async,
    in_sync_replicas: 2,
    slave_timeout_ms: 2_500,
    known_members: 2,
};

#[test]
fn async_master_says_one_copy() {
    let policy = AckPolicy { role: Role::AsyncMaster, known_members: 1, slave_timeout_ms: 3_000, ..POLICY };
    assert_eq!(policy.copies(), 1);
    assert_eq!(
        policy.to_string(),
        "ASYNC_MASTER, ASYNC_FLUSH: SEND_OK means written to this broker's file, which survives a crash of the \
         process but not of the machine; 1 copy, slaves follow without being waited for"
    );
}

#[test]
fn sync_flush_says_fsynced() {
    let policy = AckPolicy { role: Role::AsyncMaster, flush: FlushType::Sync, ..POLICY };
    assert_eq!(
        policy.to_string(),
        "ASYNC_MASTER, SYNC_FLUSH: SEND_OK means fsynced on this broker, which survives a crash of the machine; \
         1 copy, slaves follow without being waited for"
    );
}

#[test]
fn sync_master_says_how_many_copies() {
    assert_eq!(POLICY.copies(), 2);
    assert_eq!(
        POLICY.to_string(),
        "SYNC_MASTER, ASYNC_FLUSH: SEND_OK means written to this broker's file, which survives a crash of the \
         process but not of the machine, and held by 2 brokers, this one included; FLUSH_SLAVE_TIMEOUT after 2500 ms \
         otherwise"
    );
}

#[test]
fn sync_master_that_waits_for_nobody_warns() {
    for in_sync_replicas in [0, 1] {
        let policy = AckPolicy { in_sync_replicas, slave_timeout_ms: 3_000, known_members: 0, ..POLICY };
        assert_eq!(policy.copies(), 1);
        assert_eq!(policy.warnings(), [AckWarning::WaitsForNobody { in_sync_replicas }]);
        let line = policy.to_string();
        assert!(line.contains(&format!(
            "; 1 copy. WARNING: SYNC_MASTER with inSyncReplicas={in_sync_replicas} waits for no slave"
        )));
    }
}

#[test]
fn too_few_members_means_no_send_can_succeed() {
    let policy = AckPolicy { in_sync_replicas: 3, ..POLICY };
    assert_eq!(policy.warnings(), [AckWarning::TooFewMembers { in_sync_replicas: 3, known_members: 2 }]);
    assert!(policy.to_string().ends_with(
        "WARNING: inSyncReplicas=3 but only 2 of the group's brokers known, this one included: no send can succeed \
         until 1 more join(s)"
    ));
}

#[test]
fn slave_timeout_at_the_clients_warns() {
    let policy = AckPolicy { slave_timeout_ms: 3_000, ..POLICY };
    assert_eq!(policy.warnings(), [AckWarning::ClientGivesUpFirst { slave_timeout_ms: 3_000 }]);
    assert!(policy.to_string().contains("WARNING: slaveTimeout=3000 ms is not below 3000 ms, where Java clients"));
    assert!(AckPolicy { slave_timeout_ms: 2_999, ..POLICY }.warnings().is_empty());
}

#[test]
fn warnings_stand_in_one_line_together() {
    let policy = AckPolicy { in_sync_replicas: 3, slave_timeout_ms: 5_000, ..POLICY };
    assert_eq!(policy.warnings().len(), 2);
    assert_eq!(policy.to_string().matches("WARNING").count(), 2);
    assert!(!policy.to_string().contains('\n'));
}

#[test]
fn a_slave_gives_no_acknowledgement() {
    let policy = AckPolicy { role: Role::Slave, in_sync_replicas: 1, ..POLICY };
    assert_eq!(policy.copies(), 0);
    assert_eq!(
        policy.to_string(),
        "SLAVE: takes no sends; tells its master only of records that were checked and written here"
    );
}
