//! Which sends wait for a time of their own, and what is refused. Source: `HookUtils.java` (handleScheduleMessage,
//! transformTimerMessage), `TimerMessageStore.java` (isReject); reference store 22.1, broker 2.7. Stores nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use wire::{code::response, property, topic};

use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
    send::Refused,
};

/// Sends a message that asks for a time through the timer topic: sets its properties and answers where it goes. `None`
/// for a message that goes to its topic at once.
pub fn enter(
    broker: &Broker,
    config: &BrokerConfig,
    text: &mut Vec<u8>,
    real_topic: &str,
    real_queue: i32,
) -> Result<Option<(String, i32)>, Refused> {
    let number = |name| property::find(text, name);
    let asked = [property::TIMER_DELAY_SEC, property::TIMER_DELAY_MS, property::TIMER_DELIVER_MS].map(number);
    if real_topic == topic::TIMER || number(property::TIMER_OUT_MS).is_some() || asked.iter().all(Option::is_none) {
        return Ok(None);
    }
    let Some(timer) = broker.timers.timer() else {
        let remark = "accurate timer message is not enabled, timerWheelEnable is false";
        return Err(Refused(response::SYSTEM_ERROR, remark.to_owned()));
    };
    let now = now_ms();
    let limit_ms = config.timer_max_delay_sec.saturating_mul(1000);
    let deliver_ms = deliver_ms(asked, now).ok_or_else(|| illegal(limit_ms))?;
    if deliver_ms <= now {
        // Nothing is left to be taken back.
        let takes_back = number(property::TIMER_DELETE_UNIQUE_KEY).is_some();
        return if takes_back { Err(illegal(limit_ms)) } else { Ok(None) };
    }
    if deliver_ms - now > limit_ms {
        return Err(illegal(limit_ms));
    }
    let out_ms = rounded(deliver_ms, timer.config().precision_ms);
    let limit = config.timer_congest_num_each_slot;
    if limit < i64::from(i32::MAX) && is_congested(timer.slot_count(&broker.store, out_ms), limit) {
        let remark = format!(
            "timer message is under flow control, max num limit is {} or the current value is greater than {limit} and less than {}, trigger random flow control",
            limit * 2,
            limit * 2
        );
        return Err(Refused(response::SYSTEM_ERROR, remark));
    }
    property::set(text, property::TIMER_OUT_MS, &out_ms.to_string());
    property::set(text, property::REAL_TOPIC, real_topic);
    property::set(text, property::REAL_QUEUE_ID, &real_queue.to_string());
    Ok(Some((topic::TIMER.to_owned(), 0)))
}

/// The first of the three that is there counts.
fn deliver_ms(asked: [Option<&str>; 3], now: i64) -> Option<i64> {
    let [seconds, millis, at] = asked;
    let parse = |text: &str| text.parse::<i64>().ok();
    match (seconds, millis, at) {
        (Some(seconds), ..) => now.checked_add(parse(seconds)?.checked_mul(1000)?),
        (None, Some(millis), _) => now.checked_add(parse(millis)?),
        (None, None, at) => parse(at?),
    }
}

/// Start of the tick before the time: a whole tick earlier for a time at the start of one.
fn rounded(deliver_ms: i64, precision_ms: i64) -> i64 {
    (deliver_ms - 1).div_euclid(precision_ms) * precision_ms
}

fn illegal(limit_ms: i64) -> Refused {
    let remark = format!(
        "timer message illegal, the delay time should not be bigger than the max delay {limit_ms}ms; or if set del msg, the delay time should be bigger than the current time"
    );
    Refused(response::MESSAGE_ILLEGAL, remark)
}

/// Beyond the limit a part of the messages is refused, all of them at twice the limit. Upstream refuses the fewer the
/// fuller the slot is.
fn is_congested(count: i64, limit: i64) -> bool {
    static STATE: AtomicU64 = AtomicU64::new(0);
    if count <= limit {
        return false;
    }
    let mixed = STATE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let random = ((mixed ^ (mixed >> 31)) >> 16) as i64 & 0xFFFF;
    count >= limit.saturating_mul(2) || random < (count - limit).saturating_mul(0x1_0000) / limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_before_millis_before_a_time() {
        let now = 1_000_000;
        assert_eq!(deliver_ms([Some("3"), Some("9"), Some("7")], now), Some(1_003_000));
        assert_eq!(deliver_ms([None, Some("9"), Some("7")], now), Some(1_000_009));
        assert_eq!(deliver_ms([None, None, Some("7")], now), Some(7));
        for bad in ["", "x", "1.5", " 1", "9223372036854775807"] {
            assert_eq!(deliver_ms([Some(bad), None, None], now), None, "{bad}");
        }
    }

    #[test]
    fn a_whole_tick_earlier_at_the_start_of_one() {
        let out = [1, 999, 1000, 1001, 1999, 2000].map(|deliver_ms| rounded(deliver_ms, 1000));
        assert_eq!(out, [0, 0, 0, 1000, 1000, 1000]);
    }

    #[test]
    fn the_fuller_the_slot_the_more_is_refused() {
        let refused = |count| (0..1000).filter(|_| is_congested(count, 100)).count();
        assert_eq!((refused(0), refused(100), refused(200), refused(i64::MAX)), (0, 0, 1000, 1000));
        let (few, many) = (refused(120), refused(180));
        assert!((100..300).contains(&few) && (700..900).contains(&many), "{few} {many}");
    }
}
