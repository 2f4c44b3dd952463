//! Bits of a record's and of a pull request's `sysFlag`. Source: `MessageSysFlag.java`, `PullSysFlag.java`.

/// Body is compressed.
pub const COMPRESSED: i32 = 0x1;
/// Mask of the transaction kind: none, prepared, commit, rollback.
pub const TRANSACTION_MASK: i32 = 0xC;
/// A half message.
pub const TRANSACTION_PREPARED: i32 = 0x4;
/// A committed message.
pub const TRANSACTION_COMMIT: i32 = 0x8;
/// A rollback marker.
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// Born host is IPv6.
pub const BORN_HOST_V6: i32 = 0x10;
/// Store host is IPv6.
pub const STORE_HOST_V6: i32 = 0x20;
/// An inner batch that clients unwrap.
pub const NEED_UNWRAP: i32 = 0x40;
/// An inner batch.
pub const INNER_BATCH: i32 = 0x80;

/// Pull: commit `commitOffset`.
pub const PULL_COMMIT_OFFSET: i32 = 0x1;
/// Pull: may be held until a message arrives.
pub const PULL_SUSPEND: i32 = 0x2;
/// Pull: the request carries its subscription.
pub const PULL_SUBSCRIPTION: i32 = 0x4;
/// Pull: class filter mode.
pub const PULL_CLASS_FILTER: i32 = 0x8;
/// Pull: a lite pull consumer.
pub const PULL_LITE: i32 = 0x10;

/// True when a record of this flag has a place in a consume queue: no transaction, or a committed one.
pub fn is_queued(sys_flag: i32) -> bool {
    matches!(sys_flag & TRANSACTION_MASK, 0 | TRANSACTION_COMMIT)
}
