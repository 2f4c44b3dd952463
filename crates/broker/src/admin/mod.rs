//! Administration: what `mqadmin`, dashboards and peers ask a broker, one file a family.
//! Source: `broker/.../processor/AdminBrokerProcessor.java`; reference broker 12, remoting 11.8 and 11.10.
//!
//! Nothing here runs on a connection's task but what answers from memory: reads of the log and everything that writes
//! a file go to a blocking thread. Changes run one at a time, as upstream. No request waits for a name server (F-10).

mod absent;
mod attributes;
mod clients;
mod config;
mod config_update;
mod group;
mod ha;
mod paging;
mod progress;
mod queue;
mod relation;
mod relay;
mod request_mode;
mod reset;
pub(crate) mod runtime;
mod sync_answers;
mod topic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use remoting::Connection;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use wire::{
    Command,
    code::{request, response},
    header::ExtHeader,
    json::{self, FromJson},
};

use crate::{
    context::Broker, deletion::DeletionError, needs::Needs, persist::PersistError, service::answer_unless_oneway,
};

/// Requests of this family that may wait or run at a time; more are answered SYSTEM_BUSY. Changes run one at a time, and one
/// that wants no answer would else be no bound to whoever sends them. Java's `adminBrokerThreadPoolQueueCapacity`.
pub(crate) const MAX_WAITING: usize = 10_000;

/// Of these, so many may be of one connection: what it asks for delays what others ask, slaves among them.
pub(crate) const OF_ONE: usize = 256;

/// Of these, so many run at a time: each has a thread while it does, and reads whole tables or files of the log. Java's
/// `adminBrokerThreadPoolNums`.
pub(crate) const AT_ONCE: usize = 16;

/// Held while a table or the configuration changes.
static CHANGES: Mutex<()> = Mutex::const_new(());

/// A refusal: response code and remark.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused(i32, String);

impl Refused {
    fn new(code: i32, remark: impl Into<String>) -> Self {
        Self(code, remark.into())
    }

    fn error(remark: impl Into<String>) -> Self {
        Self::new(response::SYSTEM_ERROR, remark)
    }

    fn parameter(remark: impl Into<String>) -> Self {
        Self::new(response::INVALID_PARAMETER, remark)
    }
}

impl From<DeletionError> for Refused {
    fn from(error: DeletionError) -> Self {
        Self::error(error.to_string())
    }
}

impl From<PersistError> for Refused {
    fn from(error: PersistError) -> Self {
        Self::error(error.to_string())
    }
}

type Answer = Result<Command, Refused>;
type Handler = fn(&Arc<Broker>, &Command) -> Answer;

/// Where a request runs.
enum Work {
    /// Answered from memory.
    Now(Handler),
    /// Reads or cleans the log, or may write a file that guards itself.
    Read(Handler),
    /// Changes a table and its file.
    Change(Handler),
}

/// Answers a request of this family, now or later.
pub fn handle(broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command) {
    match command.code {
        request::GET_CONSUMER_RUNNING_INFO => later(broker, conn, command, relay::running_info),
        request::CONSUME_MESSAGE_DIRECTLY => later(broker, conn, command, relay::consume_directly),
        request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => later(broker, conn, command, relay::consumer_status),
        request::UPDATE_BROKER_CONFIG => later(broker, conn, command, config::update),
        code => match work(code) {
            Some(Work::Now(handler)) => finish(conn, &command, handler(broker, &command)),
            Some(Work::Read(handler)) => {
                later(broker, conn, command, move |broker, command| blocking(broker, command, handler));
            }
            Some(Work::Change(handler)) => {
                later(broker, conn, command, move |broker, command| async move {
                    let _one = CHANGES.lock().await;
                    blocking(broker, command, handler).await
                });
            }
            None => finish(conn, &command, Err(not_supported(code))),
        },
    }
}

fn work(code: i32) -> Option<Work> {
    topic_work(code).or_else(|| group_work(code)).or_else(|| broker_work(code)).or_else(|| absent_work(code))
}

fn topic_work(code: i32) -> Option<Work> {
    Some(match code {
        request::UPDATE_AND_CREATE_TOPIC => Work::Change(topic::update),
        request::UPDATE_AND_CREATE_TOPIC_LIST => Work::Change(topic::update_list),
        request::DELETE_TOPIC_IN_BROKER => Work::Change(topic::delete),
        request::GET_TOPIC_CONFIG => Work::Now(topic::get),
        request::GET_TOPIC_STATS_INFO => Work::Read(topic::stats),
        request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => Work::Now(topic::system_list),
        request::CLEAN_UNUSED_TOPIC => Work::Change(queue::clean_unused),
        request::CLEAN_EXPIRED_CONSUMEQUEUE => Work::Read(queue::clean_expired),
        request::DELETE_EXPIRED_COMMITLOG => Work::Read(queue::delete_expired),
        request::QUERY_CONSUME_QUEUE => Work::Read(queue::query),
        _ => return None,
    })
}

fn group_work(code: i32) -> Option<Work> {
    Some(match code {
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => Work::Change(group::update),
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => Work::Change(group::update_list),
        request::GET_SUBSCRIPTIONGROUP_CONFIG => Work::Read(group::get),
        request::DELETE_SUBSCRIPTIONGROUP => Work::Change(group::delete),
        request::UPDATE_AND_GET_GROUP_FORBIDDEN => Work::Change(group::forbidden),
        request::SET_MESSAGE_REQUEST_MODE => Work::Change(request_mode::set),
        request::GET_CONSUME_STATS => Work::Read(progress::of_group),
        request::GET_BROKER_CONSUME_STATS => Work::Read(progress::of_all),
        request::QUERY_CONSUME_TIME_SPAN => Work::Read(progress::time_span),
        request::CLONE_GROUP_OFFSET => Work::Now(progress::clone),
        request::QUERY_CORRECTION_OFFSET => Work::Now(progress::correction),
        request::INVOKE_BROKER_TO_RESET_OFFSET => Work::Change(reset::reset),
        request::QUERY_TOPIC_CONSUME_BY_WHO => Work::Now(relation::groups_of_topic),
        request::QUERY_TOPICS_BY_CONSUMER => Work::Now(relation::topics_of_group),
        request::QUERY_SUBSCRIPTION_BY_CONSUMER => Work::Now(relation::subscription),
        request::GET_CONSUMER_CONNECTION_LIST => Work::Now(clients::consumers),
        request::GET_PRODUCER_CONNECTION_LIST => Work::Now(clients::producers),
        request::GET_ALL_PRODUCER_INFO => Work::Now(clients::all_producers),
        _ => return None,
    })
}

fn broker_work(code: i32) -> Option<Work> {
    Some(match code {
        request::GET_BROKER_CONFIG => Work::Now(config::get),
        request::GET_BROKER_RUNTIME_INFO => Work::Read(runtime::info),
        request::VIEW_BROKER_STATS_DATA => Work::Now(runtime::stats),
        request::GET_ALL_TOPIC_CONFIG => Work::Read(sync_answers::topics),
        request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Work::Read(sync_answers::groups),
        request::GET_ALL_CONSUMER_OFFSET => Work::Read(sync_answers::consumer_offsets),
        request::GET_ALL_DELAY_OFFSET => Work::Now(sync_answers::delay_offsets),
        request::GET_ALL_MESSAGE_REQUEST_MODE => Work::Now(sync_answers::request_modes),
        request::GET_TIMER_METRICS => Work::Now(sync_answers::timer_metrics),
        request::GET_TIMER_CHECK_POINT => Work::Now(sync_answers::timer_check_point),
        request::GET_BROKER_HA_STATUS => Work::Now(ha::status),
        request::EXCHANGE_BROKER_HA_INFO => Work::Now(ha::exchange),
        request::RESET_MASTER_FLUSH_OFFSET => Work::Now(ha::reset_master_flush_offset),
        request::NOTIFY_MIN_BROKER_ID_CHANGE => Work::Now(ha::min_broker_id),
        request::GET_BROKER_EPOCH_CACHE => Work::Now(ha::epochs),
        _ => return None,
    })
}

fn absent_work(code: i32) -> Option<Work> {
    Some(match code {
        request::GET_COLD_DATA_FLOW_CTR_INFO => Work::Now(absent::cold_data_info),
        request::UPDATE_COLD_DATA_FLOW_CTR_CONFIG => Work::Now(absent::set_cold_data),
        request::REMOVE_COLD_DATA_FLOW_CTR_CONFIG => Work::Now(absent::remove_cold_data),
        request::SET_COMMITLOG_READ_MODE => Work::Now(absent::read_mode),
        request::AUTH_CREATE_USER..=request::AUTH_LIST_ACL => Work::Now(absent::access),
        _ => return None,
    })
}

fn not_supported(code: i32) -> Refused {
    Refused::new(response::REQUEST_CODE_NOT_SUPPORTED, format!(" request type {code} not supported"))
}

/// Runs what waits, and answers when it is done.
fn later<F, R>(broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command, run: F)
where
    F: FnOnce(Arc<Broker>, Command) -> R + Send + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let room = match room(broker, conn) {
        Ok(room) => room,
        Err(refused) => return finish(conn, &command, Err(refused)),
    };
    let (broker, conn) = (broker.clone(), conn.clone());
    tokio::spawn(async move {
        let answer = run(broker, command.clone()).await;
        drop(room);
        finish(&conn, &command, answer);
    });
}

/// A place among those that wait.
fn room(broker: &Broker, conn: &Connection) -> Result<[OwnedSemaphorePermit; 2], Refused> {
    let busy = |count: usize, of: &str| {
        let remark = format!(
            "[OVERLOAD]system busy, start flow control for a while: {count} requests of administration{of} wait"
        );
        Refused::new(response::SYSTEM_BUSY, remark)
    };
    let own = conn.extension_or_init(|| Arc::new(Semaphore::new(OF_ONE))).cloned();
    let own = own.and_then(|own| own.try_acquire_owned().ok()).ok_or_else(|| busy(OF_ONE, " of this client"))?;
    let all = broker.admin_room.clone().try_acquire_owned().map_err(|_| busy(MAX_WAITING, ""))?;
    Ok([own, all])
}

async fn blocking(broker: Arc<Broker>, command: Command, handler: Handler) -> Answer {
    let turn = broker.admin_turns.acquire().await;
    let (code, changes) = (command.code, broker.registrar.changes());
    let done = tokio::task::spawn_blocking({
        let broker = broker.clone();
        move || handler(&broker, &command)
    });
    let answer = done.await;
    drop(turn);
    if broker.registrar.changes() != changes {
        broker.registrar.told().await;
    }
    answer.unwrap_or_else(|error| Err(Refused::error(format!("request {} failed: {error}", request::name(code)))))
}

fn finish(conn: &Arc<Connection>, command: &Command, answer: Answer) {
    let answer = answer.unwrap_or_else(|Refused(code, remark)| {
        tracing::debug!(
            "{} from {} is refused with {code}: {remark}",
            request::name(command.code),
            conn.display_peer()
        );
        command.error(code, remark)
    });
    answer_unless_oneway(conn, command, answer);
}

/// Reads the header; a missing or unreadable field is named.
fn parse<H: ExtHeader>(command: &Command, needs: &Needs) -> Result<H, Refused> {
    needs.read(command).map_err(Refused::error)
}

/// Reads the JSON body, which must be there.
fn body<T: FromJson + Default>(command: &Command) -> Result<T, Refused> {
    let name = request::name(command.code);
    if command.body.is_empty() {
        return Err(Refused::error(format!("{name} has no body")));
    }
    json::decode(&command.body).map_err(|error| Refused::error(format!("the body of {name} cannot be read: {error}")))
}

/// Tables of a slave are its master's: a change here would be gone after the next sync.
fn master_only(broker: &Broker) -> Result<(), Refused> {
    if broker.config().is_master() {
        return Ok(());
    }
    let remark = "Can't modify topic or subscription group from slave broker, please execute it from master broker.";
    Err(Refused::error(remark))
}

fn no_topic(topic: &str) -> Refused {
    Refused::new(response::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist"))
}
