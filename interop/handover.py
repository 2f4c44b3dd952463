"""A store that is handed from Java to us and back: whoever opens it serves all of it, answers the same, and goes on."""
import os
import signal
import struct
import subprocess
import time
from collections import Counter, defaultdict

import remoting
import verify
from compare import Log, compare, stored_tables
from rig import OLD, SERVERS, TANDEM, Failure, until
from tests import QUEUES, all_consumed, of_kind, spec, test, topics

KINDS = ("sync", "batch", "tags", "orderly")
SCHEDULE, LEVELS = "SCHEDULE_TOPIC_XXXX", 18
WAITS = {14: 10, 15: 20, 16: 30}            # delay levels of the kind "late", in turn, and their seconds (DELAYS of rig.py)
INSTANTS = 10


def handover(rig, version):
    """Java writes, we open its store, serve it and write on, Java opens it again: nothing is missing at any time."""
    ns = rig.namesrv(version)
    hand_over(rig, version, ns, rig.broker(version, ns, "broker", start=False), {}, {})


@test("handover-controller")
def handover_controller(rig):
    """The same with a Java broker that a controller makes master; its store opens under us as that of a plain master."""
    version, port = SERVERS[0], rig.port()
    ns = rig.namesrv(version, enableControllerInNamesrv="true", controllerDLegerGroup="group1", controllerDLegerSelfId="n0",
                     controllerDLegerPeers=f"n0-127.0.0.1:{port}", controllerStorePath=f"{rig.folder}/controller", mappedFileSize=16 << 20)
    java = {"enableControllerMode": "true", "controllerAddr": f"127.0.0.1:{port}", "brokerId": -1, "brokerRole": "SLAVE"}
    ours = {"enableControllerMode": "false", "brokerId": 0, "brokerRole": "ASYNC_MASTER"}
    hand_over(rig, version, ns, rig.broker(version, ns, "broker", start=False), java, ours)


def hand_over(rig, version, ns, broker, java, ours):
    """`java` and `ours`: keys of the configuration that are only for one of them."""
    broker.reconfigured(**java).start()
    is_master(ns)
    topics(ns, broker, *KINDS, "late")
    story = Story(rig, version, ns, broker)
    story.go_on("java", "--sizes", "mixed", sync=200, batch=400, tags=200, orderly=200, late=30)
    story.end(signal.SIGTERM)
    turns = ((rig.ours, signal.SIGTERM), (version, signal.SIGKILL), (rig.ours, signal.SIGKILL), (version, signal.SIGTERM))
    for turn, (kind, how) in enumerate(turns):
        story.who = f"{'ours' if kind == rig.ours else 'Java'} at turn {turn + 1}"
        if version == SERVERS[-1] and kind == version and rig.ours == TANDEM:
            story.rebuild()                 # of one version: the other opens what a broker has left
        broker.reconfigured(**(ours if turn % 2 == 0 else java)).opened_as(kind)
        is_master(ns)
        story.is_as_before()
        last = turn == len(turns) - 1
        story.go_on(turn, sync=100, batch=100, late=0 if last else 30)
        if last:
            until("all delayed messages are delivered", story.nothing_waits, max(WAITS.values()) + 20)
        story.end(how)
    story.late_messages_came()
    problems, summary = compare(broker.store, broker.store)
    rig.note(summary)
    if problems:
        raise Failure("the store that all have written is not sound: " + "; ".join(problems))


def is_master(ns):
    """A controller makes a broker master some seconds after its start."""
    until("the broker is registered as master", lambda: 0 in remoting.members(ns.address, "broker-a"), 60)


class Story:
    """What is known of the store at a change of hands."""

    def __init__(self, rig, version, ns, broker):
        self.rig, self.version, self.ns, self.broker = rig, version, ns, broker
        self.sent, self.who, self.how, self.ended = [], "Java's own store", None, []

    def go_on(self, name, *args, **lots):
        """Sends and consumes, and learns what the next one must find."""
        until("the broker has its route", lambda: remoting.route(self.ns.address, "It-sync")[0] == QUEUES, 40)
        consumer = self.rig.drain(self.ns, spec("concurrent", "sync", lots["sync"], group="It-handover"), name=f"drain-{name}")
        same = "tags:same=10"               # the same keys at every turn: a query finds several, in order
        more = self.rig.load(self.ns, *args, same, *(f"{k}:{name}={n}" for k, n in lots.items() if n), name=f"load-{name}")
        verify.all_acknowledged(more)
        got = self.rig.drained(consumer)
        verify.nothing_lost(of_kind(more, "sync"), got, f"consumer of {self.who}")
        verify.no_duplicates(got, f"consumer of {self.who}")
        all_consumed(self.broker, "sync", "It-handover")
        self.sent += more
        self.pulled = self.pull(f"pull-{name}")
        verify.where_acknowledged([m for m in self.sent if m["kind"] != "late"], self.pulled, self.who)
        self.tables = remoting.live_tables(self.broker.address)
        self.questions = list(by_time(self.pulled, self.version == OLD)), list(by_key(self.sent))
        self.answers = self.ask()
        none = [q for q, found in self.answers[1].items() if not found]
        if none and self.how is None:
            raise Failure(f"{self.who}: {len(none)} key queries find nothing: {none[0]}")

    def end(self, how):
        """Ends the broker; then the progress of the delay levels on disk is that of the copies in the log."""
        if how == signal.SIGKILL:           # what is on disk at a kill is the progress of a few seconds ago
            until("the progress is on disk", lambda: self.progress_on_disk(), 30)
        self.broker.process.end(how)
        self.how = how
        self.ended.append((int(time.time() * 1000), how))
        progress, delivered = stored_tables(self.broker.store)["delay progress"]["level"], self.late_by_level()
        for level in WAITS:
            has, copies = progress.get(str(level), 0), len(delivered[level])
            if has > copies or how == signal.SIGTERM and has != copies:
                raise Failure(f"{self.who} leaves progress {has} of delay level {level}, {copies} of its messages are delivered")

    def rebuild(self):
        """Makes queues and index anew from the log, as an operator does."""
        done = subprocess.run([self.rig.suite.tandem, "store", "rebuild", "--quiet", "-c", self.broker.file, self.broker.store], capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"the rebuild for {self.who} ends with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")

    def is_as_before(self):
        """Everything is served and answered as by the last one.

        Java deletes the index file it was writing when it opens a store after a kill, and fills in what its recovery
        reads again. That is from the start of a segment, and all there is here lies in the first one; in a longer log
        older keys of that file would find nothing from then on."""
        again = self.pull("pull-again")
        verify.queues_are_whole([m for m in again if m["type"] != "time" or self.broker.kind != OLD], self.who, growing=("It-late",))     # see by_time
        now, before = (fixed(lines) for lines in (again, self.pulled))
        if now != before:
            raise Failure(f"{self.who} does not serve the same: the first row that differs is {[m for m in before if m not in now][:1]}")
        gone = [m for m in self.pulled if m["type"] == "message" and m not in again]
        if gone:
            raise Failure(f"{self.who} does not serve {len(gone)} messages any more: {gone[0]}")
        tables = remoting.live_tables(self.broker.address)
        for table in ("topics", "groups", "consumer offsets"):
            gone = [k for k, row in self.tables[table].items() if tables[table].get(k) != row]
            if gone:
                raise Failure(f"{self.who} changed {table}: {gone[0]} is {tables[table].get(gone[0])}, was {self.tables[table][gone[0]]}")
        for old, new in zip(self.answers, self.ask()):
            wrong = [q for q, found in old.items() if new[q] != found]
            if wrong:
                raise Failure(f"{self.who} gives {len(wrong)} of {len(old)} other answers; to {wrong[0]} it was {old[wrong[0]]}, is {new[wrong[0]]}")

    def ask(self):
        times, keys = self.questions
        return ({q: remoting.offset_by_time(self.broker.address, *q) for q in times}, {q: remoting.query(self.broker.address, *q) for q in keys})

    def pull(self, name):
        return self.rig.pull(self.broker, *(f"It-{k}/{QUEUES}" for k in (*KINDS, "late")), f"{SCHEDULE}/{LEVELS}", name=name)

    def progress_on_disk(self):
        path = f"{self.broker.store}/config/consumerOffset.json"
        return os.path.exists(path) and stored_tables(self.broker.store)["consumer offsets"] == self.tables["consumer offsets"]

    # Delayed messages.

    def late_sent(self):
        return {m["key"] for m in of_kind(self.sent, "late")}

    def late_by_level(self):
        """{level: {key: store times of its copies}}, from the files."""
        found = defaultdict(lambda: defaultdict(list))
        for key, store_time in records(self.broker.store, "It-late"):
            found[level_of(key)][key].append(store_time)
        return found

    def nothing_waits(self):
        progress = remoting.live_tables(self.broker.address)["delay progress"]["level"]
        return all(progress.get(str(level), 0) == remoting.max_offset(self.broker.address, SCHEDULE, level - 1) for level in WAITS)

    def late_messages_came(self):
        """Each delayed message came, none early, and twice only where its first deliverer was killed."""
        stored, delivered = dict(records(self.broker.store, SCHEDULE)), self.late_by_level()
        copies = {key: times for level in delivered.values() for key, times in level.items()}
        lost = self.late_sent() - set(copies)
        if lost:
            raise Failure(f"{len(lost)} delayed messages never came: {verify.some(sorted(lost))}")
        twice = 0
        for key, times in copies.items():
            early = stored[key] + 1000 * WAITS[level_of(key)] - min(times)
            if early > 0:
                raise Failure(f"delayed message {key} came {early} ms early")
            for first in sorted(times)[:-1]:
                twice += 1
                ended, how = next(e for e in self.ended if e[0] >= first)
                if how != signal.SIGKILL:
                    raise Failure(f"delayed message {key} came again, {ended - first} ms after it had come before a clean stop")
        self.rig.note(f"{len(copies)} delayed messages, {twice} came again after a kill")


def fixed(lines):
    """The rows that only a send changes."""
    return [m for m in lines if m["type"] != "time" and m["topic"] != "It-late"]


def level_of(key):
    return 14 + int(key.rsplit("-", 1)[1]) % 3


def records(store, topic):
    """(key, store time) of each record of a topic that is in the log."""
    log = Log(store)
    for name, _, _, physical, size in log.records:
        if name == topic:
            base, data = log.segment_at(physical)
            record = data[physical - base:physical - base + size]
            key = record[record.rindex(b"KEYS\x01") + 5:].split(b"\x02")[0].decode()
            flags, = struct.unpack_from(">i", record, 36)
            yield key, struct.unpack_from(">q", record, 48 + (20 if flags & 16 else 8))[0]


def by_time(pulled, exact):
    """Questions for the offset at some instants of each queue, from before its first message to after its last.

    Java 4.9 answers with the message nearest in time, before or after, and never beyond the last; since 5.0 with the first one not older: with
    `exact` only instants are asked at which one message was stored, where both are the same."""
    times = defaultdict(list)
    for m in fixed(pulled):
        if m["type"] == "message":
            times[m["topic"], m["queue"]].append(m["store"])
    for (topic, queue), t in times.items():
        if exact:
            once = [at for at, n in Counter(t).items() if n == 1]
            yield from ((topic, queue, at) for at in once[::max(1, len(once) // INSTANTS)])
            continue
        for i in range(INSTANTS):
            yield topic, queue, t[0] - 1 + (t[-1] - t[0] + 2) * i // (INSTANTS - 1)


def by_key(sent):
    """Questions by key and by unique key: a few of each lot."""
    lots = defaultdict(list)
    for m in sent:
        lots[m["kind"], m["key"].rsplit("-", 1)[0]].append(m)
    for (kind, _), lot in lots.items():
        for m in (lot[0], lot[len(lot) // 2], lot[-1]):
            if kind == "late":
                yield SCHEDULE, m["key"], False
                continue
            yield m["topic"], m["key"], False
            if kind != "batch":
                yield m["topic"], m["msgId"], True


for v in (*SERVERS, OLD):
    test(f"handover-{v}", v)(handover)
