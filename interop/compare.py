#!/usr/bin/env python3
"""Compares two RocketMQ store directories: a master's and its slave's, whoever wrote them.

usage: compare.py STORE_A STORE_B [--prefix] [--no-tables] [--killed]

  commit log      byte for byte over the range both hold; the first divergent offset is named
  consume queues  unit by unit over the range both hold, and against the records of the log
  tables          topics, subscription groups, consumer offsets, delay progress (config/*.json)

--prefix: one log may end before the other (a slave that was cut off). --killed: a process did not end cleanly, so
its consume queues may lack the last records, and the last record may be there in part. Needs nothing but Python; reads the files itself.
"""
import json
import mmap
import os
import re
import struct
import sys

BLANK, MESSAGE_V1, MESSAGE_V2 = 0xCBD43194, 0xDAA320A7, 0xDAA320AB
UNIT = struct.Struct(">qiq")
PREPARED, ROLLED_BACK = 0x4, 0xC        # transaction kinds that have no consume queue unit


# ------------------------------------------------------------------------------------------------------------- JSON

def parse_json(text):
    """JSON as Java writes it: keys that are integers may lack their quotes. All keys come back as strings."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    quoted = re.sub(r'("(?:[^"\\]|\\.)*")|([{,]\s*)(-?\d+)(\s*:)',
                    lambda m: m.group(1) if m.group(1) else f'{m.group(2)}"{m.group(3)}"{m.group(4)}', text)
    return json.loads(quoted)


def config(store, name):
    for path in (f"{store}/config/{name}", f"{store}/config/{name}.bak"):
        if os.path.exists(path) and os.path.getsize(path):
            with open(path, "rb") as f:
                return parse_json(f.read())
    return {}


TOPIC_FIELDS = {"readQueueNums": 16, "writeQueueNums": 16, "perm": 6, "order": False, "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "attributes": {}}
GROUP_FIELDS = {"consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": True, "consumeMessageOrderly": False,
                "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
                "notifyConsumerIdsChangedEnable": True, "groupSysFlag": 0, "consumeTimeoutMinute": 15}


def _rows(table, fields):
    return {name: {f: row.get(f, default) for f, default in fields.items()} for name, row in (table or {}).items()}


def tables(topics, groups, offsets, delays):
    """The four tables as plain dictionaries, from the JSON of the files or of the synchronisation requests: same shapes."""
    return {"topics": _rows(topics.get("topicConfigTable"), TOPIC_FIELDS),
            "groups": _rows(groups.get("subscriptionGroupTable"), GROUP_FIELDS),
            "consumer offsets": {k: dict(v) for k, v in (offsets.get("offsetTable") or {}).items() if v},
            "delay progress": {"level": delays.get("offsetTable") or {}}}


def stored_tables(store):
    return tables(config(store, "topics.json"), config(store, "subscriptionGroup.json"),
                  config(store, "consumerOffset.json"), config(store, "delayOffset.json"))


def compare_tables(a, b, most=8):
    problems = []
    for kind in a:
        for key in sorted(set(a[kind]) | set(b[kind])):
            x, y = a[kind].get(key), b[kind].get(key)
            if x != y:
                problems.append(f"{kind}: {key}: {x} / {y}")
    return problems[:most] + ([f"... and {len(problems) - most} more differences in tables"] if len(problems) > most else [])


# ------------------------------------------------------------------------------------------------------- commit log

class Log:
    """The segments of a commit log and the position after its last record."""

    def __init__(self, store):
        folder = f"{store}/commitlog"
        names = sorted(n for n in os.listdir(folder) if n.isdigit() and os.path.getsize(f"{folder}/{n}"))
        self.segments = []
        for name in names:
            with open(f"{folder}/{name}", "rb") as f:
                self.segments.append((int(name), mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)))
        self.start = self.end = self.segments[0][0] if self.segments else 0
        self.problem = None
        self.records = list(self._walk())

    def _walk(self):
        """(topic, queue, queue offset, physical offset, size) of each record that has a consume queue unit."""
        for base, data in self.segments:
            if base != self.end:
                return
            at = 0
            while at + 8 <= len(data):
                size, magic = struct.unpack_from(">iI", data, at)
                if magic == BLANK and size == len(data) - at:
                    at = len(data)
                    break
                if magic not in (MESSAGE_V1, MESSAGE_V2) or not 0 < size <= len(data) - at:
                    if (size, magic) != (0, 0):
                        self.problem = f"no record at {base + at}: size {size}, magic {magic:#x}"
                    break
                queue, _, queue_offset, physical, flags = struct.unpack_from(">iiqqi", data, at + 12)
                if physical != base + at:
                    self.problem = f"the record at {base + at} says it is at {physical}"
                    break
                p = at + 48 + (20 if flags & 16 else 8) + 8 + (20 if flags & 32 else 8) + 12
                p += 4 + struct.unpack_from(">i", data, p)[0]
                width = 2 if magic == MESSAGE_V2 else 1
                length = int.from_bytes(data[p:p + width], "big")
                topic = data[p + width:p + width + length].decode()
                if flags & 0xC not in (PREPARED, ROLLED_BACK):
                    yield topic, queue, queue_offset, physical, size
                at += size
            self.end = base + at
            if at < len(data) - 8:
                return

    def drop_torn_end(self):
        """What a master that was killed had begun to send lies in a Java slave's log in part. Records end with properties, not with zeros."""
        if not self.records:
            return
        *_, physical, size = self.records[-1]
        base, data = self.segment_at(physical)
        if physical + size == self.end and data[physical - base + size - 1] == 0:
            self.records.pop()
            self.end = physical

    def segment_at(self, offset):
        for base, data in self.segments:
            if base <= offset < base + len(data):
                return base, data
        raise KeyError(offset)


def compare_logs(a, b, prefix):
    start, end = max(a.start, b.start), min(a.end, b.end)
    problems = [f"commit log {side}: {log.problem}" for side, log in (("A", a), ("B", b)) if log.problem]
    if start >= end and max(a.end, b.end) > 0:
        problems.append(f"commit logs have nothing in common: {a.start}..{a.end} / {b.start}..{b.end}")
    if a.end != b.end and not prefix:
        problems.append(f"commit logs end at {a.end} / {b.end}")
    at = start
    while at < end:
        (base_a, data_a), (base_b, data_b) = a.segment_at(at), b.segment_at(at)
        upto = min(end, base_a + len(data_a), base_b + len(data_b), at + (1 << 20))
        x, y = data_a[at - base_a:upto - base_a], data_b[at - base_b:upto - base_b]
        if x != y:
            first = at + next(i for i in range(len(x)) if x[i] != y[i])
            owner = next(((t, q, n, p) for t, q, n, p, s in a.records if p <= first < p + s), None)
            where = f"in the record of {owner[0]}/{owner[1]} at queue offset {owner[2]}, which begins at {owner[3]}" if owner else "in no record"
            problems.append(f"commit logs differ from {first} on, {where}")
            break
        at = upto
    return problems, start, end


# --------------------------------------------------------------------------------------------------- consume queues

class Queue:
    """The units of one consume queue: a list, the first of them for queue offset `first`."""

    def __init__(self, folder):
        self.first, self.units = 0, []
        names = sorted(n for n in os.listdir(folder) if n.isdigit())
        for i, name in enumerate(names):
            if i == 0:
                self.first = int(name) // UNIT.size
            with open(f"{folder}/{name}", "rb") as f:
                data = f.read()
            for unit in UNIT.iter_unpack(data[:len(data) - len(data) % UNIT.size]):
                if unit[1] == 0:
                    return
                if unit[1] == 0x7FFFFFFF and not self.units:     # filler before the first unit
                    self.first += 1
                    continue
                self.units.append(unit)

    @property
    def end(self):
        return self.first + len(self.units)

    def unit(self, offset):
        return self.units[offset - self.first]


def queues(store):
    root, found = f"{store}/consumequeue", {}
    for topic in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        for queue in sorted(os.listdir(f"{root}/{topic}")):
            if queue.isdigit():
                q = Queue(f"{root}/{topic}/{queue}")
                if q.units:
                    found[topic, int(queue)] = q
    return found


def compare_queues(a, b, whole, most=8):
    problems, units = [], 0
    for key in sorted(set(a) | set(b)):
        name = f"consume queue {key[0]}/{key[1]}"
        if key not in a or key not in b:
            if whole:
                problems.append(f"{name}: only in {'A' if key in a else 'B'}")
            continue
        x, y = a[key], b[key]
        if whole and (x.first, x.end) != (y.first, y.end):
            problems.append(f"{name}: offsets {x.first}..{x.end} / {y.first}..{y.end}")
        for offset in range(max(x.first, y.first), min(x.end, y.end)):
            units += 1
            if x.unit(offset) != y.unit(offset):
                problems.append(f"{name}: unit {offset}: {x.unit(offset)} / {y.unit(offset)}")
                break
    return problems[:most], units


def check_dispatch(side, log, found, most=4):
    """Every record of the log has its unit, and no unit stands for something else."""
    problems, seen = [], {}
    for topic, queue, offset, physical, size in log.records:
        q = found.get((topic, queue))
        seen[topic, queue] = seen.get((topic, queue), 0) + 1
        if q is None or not q.first <= offset < q.end or q.unit(offset)[:2] != (physical, size):
            have = None if q is None else (q.first, q.end) if not q.first <= offset < q.end else q.unit(offset)[:2]
            problems.append(f"store {side}: the record of {topic}/{queue} at queue offset {offset}, {(physical, size)}, has no right unit: {have}")
    for key, q in found.items():
        if log.start == 0 and len(q.units) != seen.get(key, 0):
            problems.append(f"store {side}: consume queue {key[0]}/{key[1]} has {len(q.units)} units for {seen.get(key, 0)} records")
    return problems[:most]


# ------------------------------------------------------------------------------------------------------------ whole

def compare(store_a, store_b, prefix=False, with_tables=True, killed=False):
    """Returns (problems, summary)."""
    a, b = Log(store_a), Log(store_b)
    if killed:
        a.drop_torn_end()
        b.drop_torn_end()
    problems, start, end = compare_logs(a, b, prefix)
    queues_a, queues_b = queues(store_a), queues(store_b)
    more, units = compare_queues(queues_a, queues_b, whole=not (prefix or killed) and a.start == b.start)
    problems += more
    if not killed:
        problems += check_dispatch("A", a, queues_a) + check_dispatch("B", b, queues_b)
    if with_tables:
        problems += compare_tables(stored_tables(store_a), stored_tables(store_b))
    in_common = sum(start <= r[3] < end for r in a.records)
    return problems, f"{in_common} records in {end - start} bytes, {len(a.segments)} segments, {units} units in {len(queues_a)} queues compared"


def main(args):
    flags, stores = {a for a in args if a.startswith("--")}, [a for a in args if not a.startswith("--")]
    if len(stores) != 2 or flags - {"--prefix", "--no-tables", "--killed"}:
        print(__doc__, file=sys.stderr)
        return 64
    problems, summary = compare(*stores, prefix="--prefix" in flags, with_tables="--no-tables" not in flags, killed="--killed" in flags)
    for p in problems:
        print("DIFFERS", p)
    print(summary)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
