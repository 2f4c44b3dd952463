"""What must hold between the lines of Load, Drain and Pull (see the heads of these programs). Each function raises Failure."""
from collections import Counter, defaultdict

from rig import Failure


def some(items, most=3):
    items = list(items)
    return ", ".join(map(str, items[:most])) + (f" and {len(items) - most} more" if len(items) > most else "")


def all_acknowledged(sent):
    bad = [f"{m['key']}: {m['status']}" for m in sent if m["status"] not in ("SEND_OK", "ONEWAY")]
    if bad:
        raise Failure(f"{len(bad)} sends were not acknowledged: {some(bad)}")


def nothing_lost(sent, got, what):
    """Every acknowledged message is there, with its body."""
    have = {m["key"]: m for m in got}
    lost = [m["key"] for m in sent if m["key"] not in have]
    if lost:
        raise Failure(f"{what}: {len(lost)} of {len(sent)} are lost: {some(lost)}")
    spoilt = [m["key"] for m in sent if (m["size"], m["crc"]) != (have[m["key"]]["size"], have[m["key"]]["crc"])]
    if spoilt:
        raise Failure(f"{what}: {len(spoilt)} have another body: {some(spoilt)}")
    strange = set(have) - {m["key"] for m in sent}
    if strange:
        raise Failure(f"{what}: {len(strange)} that nobody sent: {some(sorted(strange))}")


def no_duplicates(got, what):
    twice = [k for k, n in Counter((m.get("instance"), m["key"]) for m in got).items() if n > 1]
    if twice:
        raise Failure(f"{what}: {len(twice)} came more than once: {some(k for _, k in twice)}")


def in_order(got, what):
    """Per queue by offset, and per ordering key by its number, in the order of arrival."""
    last, last_of_key = {}, {}
    for m in got:
        number = int(m["key"].rsplit("-", 1)[1])
        queue, lot = (m["topic"], m["queue"]), (m["key"].rsplit("-", 1)[0], m["order"])
        if m["offset"] <= last.get(queue, -1):
            raise Failure(f"{what}: queue {queue[1]}: offset {m['offset']} came after {last[queue]}")
        if number <= last_of_key.get(lot, -1):
            raise Failure(f"{what}: {m['key']} came after number {last_of_key[lot]} of the same ordering key {m['order']}")
        last[queue], last_of_key[lot] = m["offset"], number


def not_early(got, delays, what):
    """A delayed message is delivered after its delay (levels 1 to 4 in turn), and not long after."""
    for m in got:
        delay = 1000 * delays[int(m["key"].rsplit("-", 1)[1]) % 4]
        waited = m["at"] - m["born"]
        if waited < delay - 50:
            raise Failure(f"{what}: {m['key']} was delivered after {waited} ms, its delay is {delay} ms")
        if waited > delay + 30000:
            raise Failure(f"{what}: {m['key']} was delivered only after {waited} ms, its delay is {delay} ms")


def where_acknowledged(sent, pulled, what):
    """A message is at the queue and offset that its acknowledgement named."""
    have = {(m["topic"], m["queue"], m["offset"]): m for m in pulled if m["type"] == "message"}
    for m in sent:
        if m["status"] != "SEND_OK":
            continue
        at = have.get((m["topic"], m["queue"], m["offset"]))
        if at is None or (at["key"], at["crc"]) != (m["key"], m["crc"]):
            raise Failure(f"{what}: {m['key']} was acknowledged at {m['topic']}/{m['queue']} offset {m['offset']}; there is {at and at['key']}")


def queues_are_whole(pulled, what, growing=()):
    """Every offset from min to max is there once; earliest time and offset-by-time agree with what was read. The topics in
    `growing` get messages meanwhile: what came after their max was asked for, and
    what they answer to a time, is left out."""
    by_queue = defaultdict(list)
    for m in pulled:
        if m["type"] == "message":
            by_queue[m["topic"], m["queue"]].append(m)
    for q in (m for m in pulled if m["type"] == "queue"):
        rows = [m for m in by_queue[q["topic"], q["queue"]] if q["topic"] not in growing or m["offset"] < q["max"]]
        name = f"{what}: {q['topic']}/{q['queue']}"
        if [m["offset"] for m in rows] != list(range(q["min"], q["max"])):
            raise Failure(f"{name}: {len(rows)} messages were read between min {q['min']} and max {q['max']}")
        if any(a["physical"] >= b["physical"] for a, b in zip(rows, rows[1:])):
            raise Failure(f"{name}: the physical offsets do not rise")
        if rows and q["earliest"] != rows[0]["store"]:
            raise Failure(f"{name}: earliest store time {q['earliest']}, the first message has {rows[0]['store']}")
    for t in (m for m in pulled if m["type"] == "time" and m["topic"] not in growing):
        rows = by_queue[t["topic"], t["queue"]]
        expect = next((m["offset"] for m in rows if m["store"] >= t["time"]), rows[-1]["offset"] + 1)
        if t["offset"] != expect:
            raise Failure(f"{what}: {t['topic']}/{t['queue']}: offset by time {t['time']} is {t['offset']}, not {expect}")
