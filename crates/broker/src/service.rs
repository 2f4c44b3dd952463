//! The front door: requests of one socket read, in order, to their families. Reads no header.
//! Which code belongs where: reference remoting 10.

use std::sync::Arc;

use remoting::{Connection, NOT_TAKEN, Requests, Service};
use wire::{
    Command,
    code::{request, response},
};

use crate::{
    admin, assignment, consumer_offset, context::Broker, heartbeat, leaving, lock, pull, query, recall, reply, send,
    send_back, starting::Starting,
};

/// One listener of a broker.
pub struct Front {
    /// The broker behind it, which may not serve yet.
    pub starting: Arc<Starting>,
    /// The fast listener serves no pulls.
    pub fast: bool,
}

impl Service for Front {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        let Some(broker) = self.starting.broker() else { return self.starting.answer(conn, requests) };
        let is_leaving = broker.leaving.has_begun();
        let mut sends = send::Run::new(broker, conn);
        while let Some(command) = requests.next() {
            if is_leaving && leaving::send_away(broker, conn, &command) {
                continue;
            }
            if send::is_send(command.code) {
                sends.add(&command);
                requests.reuse(command);
                continue;
            }
            sends.finish();
            broker.dispatch_acknowledged();
            self.handle(broker, conn, command);
        }
        sends.finish();
    }

    fn on_close(&self, conn: &Arc<Connection>) {
        let Some(broker) = self.starting.broker() else { return };
        for changed in broker.clients.connection_closed(conn.id()) {
            broker.notify_change(Some(changed));
        }
        broker.holds.connection_closed(conn.id());
    }
}

impl Front {
    fn handle(&self, broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command) {
        let answer = match command.code {
            request::PULL_MESSAGE | request::LITE_PULL_MESSAGE if !self.fast => {
                pull::handle(broker, conn, &command);
                return;
            }
            request::HEART_BEAT => heartbeat::heart_beat(broker, conn, &command),
            request::UNREGISTER_CLIENT => heartbeat::unregister(broker, conn, &command),
            request::CHECK_CLIENT_CONFIG => heartbeat::check_client(broker, &command),
            request::GET_CONSUMER_LIST_BY_GROUP => heartbeat::consumer_list(broker, &command),
            request::QUERY_CONSUMER_OFFSET => either(&command, consumer_offset::query(broker, &command)),
            request::UPDATE_CONSUMER_OFFSET => consumer_offset::update(broker, &command),
            request::GET_MAX_OFFSET => either(&command, consumer_offset::max(broker, &command)),
            request::GET_MIN_OFFSET => either(&command, consumer_offset::min(broker, &command)),
            request::SEARCH_OFFSET_BY_TIMESTAMP => either(&command, consumer_offset::search(broker, &command)),
            request::GET_EARLIEST_MSG_STORETIME => either(&command, consumer_offset::earliest_time(broker, &command)),
            request::LOCK_BATCH_MQ => lock::lock(broker, &command),
            request::UNLOCK_BATCH_MQ => lock::unlock(broker, &command),
            request::CONSUMER_SEND_MSG_BACK => {
                send_back::handle(broker, conn, command);
                return;
            }
            request::QUERY_ASSIGNMENT => {
                assignment::handle(broker, conn, command);
                return;
            }
            code if reply::is_reply(code) => {
                reply::handle(broker, conn, command);
                return;
            }
            request::RECALL_MESSAGE => {
                recall::handle(broker, conn, command);
                return;
            }
            request::QUERY_MESSAGE => either(&command, query::by_key(broker, &command)),
            request::VIEW_MESSAGE_BY_ID => either(&command, query::by_offset(broker, &command)),
            _ => {
                admin::handle(broker, conn, command);
                return;
            }
        };
        answer_unless_oneway(conn, &command, answer);
    }
}

/// The answer, or one that says what is wrong with the header.
fn either(command: &Command, answer: Result<Command, String>) -> Command {
    answer.unwrap_or_else(|remark| command.error(response::SYSTEM_ERROR, remark))
}

/// Sends an answer where one is wanted. For a client that reads none of its answers no tables and messages pile up here:
/// it is told to ask again.
pub fn answer_unless_oneway(conn: &Arc<Connection>, command: &Command, answer: Command) {
    if command.is_oneway() {
        return;
    }
    conn.reply_or_short(answer, || command.error(response::SYSTEM_BUSY, NOT_TAKEN));
}
