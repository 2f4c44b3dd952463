"""Stores that Java brokers made long ago (the data of the store's tests): we serve all of them and write on, then Java does."""
import json
import signal
import subprocess
import tarfile
from collections import defaultdict

import remoting
import verify
from rig import ROOT, TANDEM, Failure, until
from tests import test

DATA = f"{ROOT}/crates/store/tests/data"
# Keys of a golden broker.conf that this suite sets by itself.
OURS = ("brokerName", "brokerId", "brokerRole", "listenPort", "haListenPort", "brokerIP1", "brokerIP2")
TOPICS = {"sync": "CorpusNormal", "batch": "CorpusBatch", "inner": "CorpusBcq"}
PER_TURN = 40


def golden(rig, version, name):
    """All that Java said of its store when it was made, we say, and then Java again; what was added meanwhile too."""
    ns = rig.namesrv(version)
    broker = rig.broker(rig.ours, ns, "broker", start=False, fileReservedTime=24 * 365 * 100, **configured(name))
    unpack(rig, version, name, broker.home)
    with open(f"{DATA}/{name}/expected.json", encoding="utf-8") as f:
        store = Golden(rig, ns, broker, json.load(f), forgot=name.endswith("killed"))
    turns = ((rig.ours, signal.SIGTERM), (version, signal.SIGKILL), (rig.ours, signal.SIGKILL), (version, signal.SIGTERM))
    for turn, (kind, how) in enumerate(turns):
        broker.opened_as(kind)
        store.who = f"{'ours' if kind == rig.ours else 'Java'} at turn {turn + 1}"
        # After a kill Java deletes the index file that was being filled, and finds its older keys no more.
        forgets = kind != rig.ours and turns[turn - 1][1] == signal.SIGKILL
        store.is_served(turn, with_keys=not forgets)
        if turn < len(turns) - 1:
            store.go_on(turn)
        broker.process.end(how)
        if rig.ours == TANDEM and kind == rig.ours:
            store.is_sound()


def configured(name):
    with open(f"{DATA}/{name}/broker.conf", encoding="utf-8") as f:
        pairs = (line.strip().split("=", 1) for line in f if "=" in line)
        return {k: v for k, v in pairs if k not in OURS and k != "fileReservedTime"}


def unpack(rig, version, name, home):
    rig.run(version, "Unpack", f"{DATA}/{name}/store.tar.zst", f"{home}/store.tar", name="unpack")
    with tarfile.open(f"{home}/store.tar") as tar:
        tar.extractall(home, filter="data")


class Golden:
    """What is known of the store."""

    def __init__(self, rig, ns, broker, expected, forgot):
        self.rig, self.ns, self.broker, self.forgot, self.sent, self.who = rig, ns, broker, forgot, [], None
        columns = {c: i for i, c in enumerate(expected["columns"])}
        self.rows, self.last = {}, {}
        for queue in expected["queues"]:
            # A static topic is asked for by its logic queues, the broker's own topics move by themselves.
            if queue["topic"].startswith(("Corpus", "%RETRY%", "%DLQ%")) and queue["topic"] != "CorpusStatic":
                key = queue["topic"], int(queue["queueId"])
                self.rows[key] = [tuple(row[columns[c]] for c in ("physicalOffset", "storeTimestamp", "keys", "plainBodyLength", "plainBodyCrc")) for row in queue["messages"]]
                self.last[key] = max((row[1] for row in self.rows[key]), default=0)
        # Beyond its last message a queue that has grown answers otherwise; batch queues too (reference of Java's rules).
        self.times = {(a["topic"], int(a["queueId"]), a["time"]): int(a["default"]) for a in expected["offsetByTime"]
                      if a["topic"] not in ("CorpusStatic", "CorpusBcq") and int(a["time"]) <= self.last.get((a["topic"], int(a["queueId"])), -1)}
        self.keys = {(a["topic"], a["key"], a["unique"]): a["physicalOffsets"] for a in expected["queryByKey"]}

    def is_served(self, turn, with_keys):
        """Each message and each answer of the golden store, and each message that was sent since."""
        pulled = self.pull(f"pull-{turn}")
        have = defaultdict(list)
        for m in pulled:
            if m["type"] == "message":
                have[m["topic"], m["queue"]].append(m)
        for queue, rows in self.rows.items():
            found = [(m["physical"], m["store"], m["key"], m["size"], m["crc"]) for m in have[queue]]
            if queue[0] == "CorpusBcq":
                found, rows = (sorted({row[:2] for row in r}) for r in (found, rows))
            if found[:len(rows)] != rows:
                wrong = next(i for i, row in enumerate(rows) if found[i:i + 1] != [row])
                raise Failure(f"{self.who} serves other messages of {queue}: number {wrong} is {found[wrong:wrong + 1]}, was {rows[wrong]}")
        verify.where_acknowledged(self.sent, pulled, self.who)
        self.answers("time", self.times, {q: remoting.offset_by_time(self.broker.address, *q) for q in self.times})
        if with_keys:
            found = {q: remoting.query(self.broker.address, *q) for q in self.keys}
            # The Java broker that told of the killed store had forgotten keys when it opened it.
            self.answers("key", self.keys, {q: [p for p in found[q] if p in self.keys[q]] if self.forgot else found[q] for q in self.keys})

    def answers(self, what, before, now):
        wrong = [q for q in before if before[q] != now[q]]
        if wrong:
            raise Failure(f"{self.who} gives {len(wrong)} of {len(before)} other answers by {what}; to {wrong[0]} it was {before[wrong[0]]}, is {now[wrong[0]]}")

    def pull(self, name):
        queues = defaultdict(int)
        for topic, queue in self.rows:
            queues[topic] = max(queues[topic], queue + 1)
        return self.rig.pull(self.broker, *(f"{t}/{n}" for t, n in queues.items()), name=name)

    def go_on(self, turn):
        """Adds to queues that are there."""
        for topic in TOPICS.values():
            until(f"{topic} has a route", lambda: remoting.route(self.ns.address, topic)[0], 40)
        where = [word for kind, topic in TOPICS.items() for word in (f"--topic-{kind}", topic)]
        more = self.rig.load(self.ns, *where, *(f"{kind}:{turn}={PER_TURN}" for kind in TOPICS), name=f"load-{turn}")
        verify.all_acknowledged(more)
        self.sent += more

    def is_sound(self):
        done = subprocess.run([self.rig.suite.tandem, "store", "verify", self.broker.store, "--quiet", "--max-hash-slots", "2000", "--max-index", "6000"],
                              capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"{self.who} leaves a store that is not sound: {done.stdout[-1500:]}{done.stderr[-500:]}")


for n, v in (("java-5.3.3-clean", "5.3.3"), ("java-5.3.3-killed", "5.3.3"), ("java-5.5.0-clean", "5.5.0")):
    test(n.replace("java", "golden"), v, n)(golden)
