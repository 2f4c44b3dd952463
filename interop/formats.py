"""What a store can hold besides plain messages, handed from Java to us and back: inner batches in batch queues, light queues and
their progress, extensions of queue units, records with IPv6 hosts and with the CRC property, records whose topic is too long for the first version."""
import os
import signal
import socket
import struct
import subprocess
import zlib
from collections import defaultdict

import remoting
import verify
from compare import MESSAGE_V2, Log, parse_json
from rig import SERVERS, TANDEM, Failure, until
from tests import QUEUES, of_kind, test, topics

KEYS = {"enabledAppendPropCRC": "true", "forceVerifyPropCRC": "true", "enableLmq": "true", "enableMultiDispatch": "true",
        "enableConsumeQueueExt": "true", "mappedFileSizeConsumeQueueExt": 4096}
IPV6 = {"brokerIP1": "[::1]", "brokerIP2": "[::1]", "bindAddress": "::"}
KINDS = ("sync", "batch", "tags", "light", "inner")
LIGHT = {"%LMQ%it-all": 1, "%LMQ%it-half": 2}        # light queue: it gets every nth message
LIGHT_GROUP = "%LMQ%it-group"
# Only the retry topic of a long group makes records of the second version; Java 5.5 takes no such name any more.
GROUPS = {"5.3.3": "It-" + "long-" * 40, "5.5.0": "It-short"}
EACH, SENT_BACK = 80, 3                                 # at each turn
CRC_PROPERTY, LONGEST_OF_V1 = 20, 127
INSTANTS = 6


def formats(rig, version):
    """Java writes, we serve and write on, Java again, after clean stops and kills: all say the same of all of it."""
    ns = rig.namesrv(version)
    hosts = IPV6 if version == SERVERS[0] and has_ipv6() else {}
    rig.note("hosts of IPv6" if hosts else "hosts of IPv4")
    broker = rig.broker(version, ns, "broker", **KEYS, **hosts)
    remoting.create_topic(broker.address, "It-inner", QUEUES, attributes="+queue.type=BatchCQ")
    topics(ns, broker, "sync", "batch", "tags", "light")
    until("It-inner has a route", lambda: remoting.route(ns.address, "It-inner")[0] == QUEUES)
    remoting.create_group(broker.address, GROUPS[version])
    history = History(rig, ns, broker, GROUPS[version])
    history.go_on("Java's own store", 0)
    history.end(signal.SIGTERM)
    for turn, (kind, how) in enumerate(((rig.ours, signal.SIGTERM), (version, signal.SIGKILL), (rig.ours, signal.SIGKILL), (version, signal.SIGTERM)), 1):
        broker.opened_as(kind)
        history.is_as_before(f"{'ours' if kind == rig.ours else 'Java'} at turn {turn}")
        history.go_on(f"{'ours' if kind == rig.ours else 'Java'} at turn {turn}", turn)
        history.end(how)


class History:
    """What is known of the store at a change of hands."""

    def __init__(self, rig, ns, broker, group):
        self.rig, self.ns, self.broker, self.group, self.retry = rig, ns, broker, group, f"%RETRY%{group}"
        self.sent, self.progress = [], 0

    def go_on(self, who, turn):
        """Sends of every kind, and learns what the next one must find."""
        until("the broker has its route", lambda: remoting.route(self.ns.address, "It-inner")[0] == QUEUES, 40)
        more = self.rig.load(self.ns, *(f"{kind}:{turn}={EACH}" for kind in KINDS), name=f"load-{turn}")
        verify.all_acknowledged(more)
        self.sent += more
        self.send_back(of_kind(more, "sync")[-SENT_BACK:])
        self.pulled = self.pull(f"pull-{turn}")
        # An inner batch is one record, and Java answers otherwise to times in batch queues.
        verify.queues_are_whole([m for m in self.pulled if m["topic"] != "It-inner"], who)
        verify.where_acknowledged(self.sent, self.pulled, who)
        self.light_queues_have_theirs(who)
        self.tags_are_told_apart(who)
        self.progress = len(of_kind(self.sent, "light")) - turn
        remoting.commit(self.broker.address, "%LMQ%it-all", 0, LIGHT_GROUP, self.progress)
        self.questions = list(by_time(self.pulled)), list(by_key(self.sent))
        self.answers = self.ask()
        none = [q for q, found in self.answers[1].items() if not found]
        if none and turn == 0:
            raise Failure(f"{who}: {len(none)} key queries find nothing: {none[0]}")

    def send_back(self, messages):
        before = remoting.max_offset(self.broker.address, self.retry, 0) if len(self.sent) > len(KINDS) * EACH else 0
        for message in messages:
            remoting.send_back(self.broker.address, self.group, message)
        until("what was sent back has come", lambda: remoting.max_offset(self.broker.address, self.retry, 0) == before + SENT_BACK, 40)

    def light_queues_have_theirs(self, who):
        for queue, nth in LIGHT.items():
            have = [m["key"] for m in self.pulled if m["type"] == "message" and m["topic"] == queue]
            want = [m["key"] for m in of_kind(self.sent, "light") if int(m["key"].rsplit("-", 1)[1]) % nth == 0]
            if have != want:
                raise Failure(f"{who}: {queue} has {len(have)} messages, not the {len(want)} that were sent to it in their order")

    def tags_are_told_apart(self, who):
        """The broker leaves out by itself what has other tags, by what the units say of it."""
        for tag in ("TagB", "TagD"):
            for queue in range(QUEUES):
                want = [m["physical"] for m in self.pulled if m["type"] == "message" and m["topic"] == "It-tags" and m["queue"] == queue and m["tag"] == tag]
                have = remoting.pull(self.broker.address, "It-tags", queue, tag)
                if have != want:
                    raise Failure(f"{who}: It-tags/{queue} gives {len(have)} messages with {tag}, there are {len(want)}")

    def is_as_before(self, who):
        again = self.pull("pull-again")
        self.tags_are_told_apart(who)
        now, before = (fixed(lines) for lines in (again, self.pulled))
        gone = [m for m in self.pulled if m["type"] == "message" and m not in again]
        if now != before or gone:
            raise Failure(f"{who} does not serve the same: it was {(gone + [m for m in before if m not in now])[:1]}, is {[m for m in now if m not in before][:1]}")
        progress = remoting.committed(self.broker.address, "%LMQ%it-all", 0, LIGHT_GROUP)
        if progress != self.progress:
            raise Failure(f"{who} has progress {progress} of a light queue, it was {self.progress}")
        for old, new in zip(self.answers, self.ask()):
            wrong = [q for q, found in old.items() if new[q] != found]
            if wrong:
                raise Failure(f"{who} gives {len(wrong)} of {len(old)} other answers; to {wrong[0]} it was {old[wrong[0]]}, is {new[wrong[0]]}")

    def ask(self):
        times, keys = self.questions
        return ({q: remoting.offset_by_time(self.broker.address, *q) for q in times}, {q: remoting.query(self.broker.address, *q) for q in keys})

    def pull(self, name, *queues):
        return self.rig.pull(self.broker, *(queues or (*(f"It-{k}/{QUEUES}" for k in KINDS), *(f"{q}/1" for q in LIGHT), f"{self.retry}/1")), name=name)

    def end(self, how):
        """Ends the broker; then every record has its CRC, and the views are those of the log."""
        if how == signal.SIGKILL:
            until("the progress of the light queue is on disk", self.progress_on_disk, 30)
        self.broker.process.end(how)
        second = check_crcs(self.broker.store)
        if not os.listdir(f"{self.broker.store}/consumequeue_ext/It-tags/0"):
            raise Failure("the queues have no extension")
        if second < SENT_BACK and len(self.retry) > LONGEST_OF_V1:
            raise Failure(f"the log has {second} records of the second version: the test does not see any")
        if self.rig.ours == TANDEM:
            done = subprocess.run([self.rig.suite.tandem, "store", "verify", self.broker.store, "--quiet", "--segment-size", str(16 << 20)],
                                  capture_output=True, text=True)
            if done.returncode:
                raise Failure(f"the store is not sound: {done.stdout[-1500:]}{done.stderr[-500:]}")

    def progress_on_disk(self):
        path = f"{self.broker.store}/config/lmqConsumerOffset.json"
        if not os.path.exists(path):
            return False
        with open(path, encoding="utf-8") as f:
            return (parse_json(f.read()).get("lmqOffsetTable") or {}).get(f"%LMQ%it-all@{LIGHT_GROUP}") == self.progress


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def fixed(lines):
    """The rows that only a send changes: what was delayed may come again after a kill."""
    return [m for m in lines if not m["topic"].startswith("%RETRY%")]


def by_time(pulled):
    """Questions for the offset at some store times of each queue."""
    times = defaultdict(list)
    for m in fixed(pulled):
        if m["type"] == "message":
            times[m["topic"], m["queue"]].append(m["store"])
    for (topic, queue), found in times.items():
        for i in range(INSTANTS):
            yield topic, queue, found[0] - 1 + (found[-1] - found[0] + 1) * i // (INSTANTS - 1)


def by_key(sent):
    """Questions by key and by unique key: a few of each kind and turn. The keys within an inner batch are in no index."""
    lots = defaultdict(list)
    for m in sent:
        lots[m["kind"], m["key"].rsplit("-", 1)[0]].append(m)
    for (kind, _), lot in lots.items():
        for m in (lot[0], lot[len(lot) // 2], lot[-1]):
            if kind != "inner":
                yield m["topic"], m["key"], False
            if kind != "batch":
                yield m["topic"], m["msgId"], True


def check_crcs(store):
    """Every record ends with the CRC of all before it; returns how many are of the second version."""
    log, second = Log(store), 0
    if log.problem:
        raise Failure(log.problem)
    for topic, _, _, physical, size in log.records:
        base, data = log.segment_at(physical)
        record = data[physical - base:physical - base + size]
        second += struct.unpack_from(">I", record, 4)[0] == MESSAGE_V2
        digits = str(zlib.crc32(record[:-CRC_PROPERTY]) & 0x7FFFFFFF)[::-1].ljust(10, "0")
        if record[-CRC_PROPERTY:] != f"__CRC32#\x01{digits}\x02".encode():
            raise Failure(f"the record of {topic} at {physical} ends with {record[-CRC_PROPERTY:]}, its CRC is {digits}")
    return second


for v in SERVERS:
    test(f"formats-{v}", v)(formats)
