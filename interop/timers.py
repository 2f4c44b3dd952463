"""Timer messages that wait while the store, or the role of master, is handed from us to Java and back."""
import glob
import signal
import time

import remoting
import verify
from rig import Failure, connected, settled, until
from tests import QUEUES, test, topics


@test("timer")
def timer(rig):
    """Through hand-overs in both directions, clean stops and kills: each message comes, none before its time."""
    ns = rig.namesrv("5.3.3")
    broker = rig.broker(rig.ours, ns, "broker")
    topics(ns, broker, "timer")
    sent = []
    turns = ((rig.ours, signal.SIGTERM), ("5.3.3", signal.SIGTERM), (rig.ours, signal.SIGKILL), ("5.3.3", signal.SIGKILL), (rig.ours, signal.SIGTERM))
    for turn, (kind, how) in enumerate(turns):
        if turn:
            broker.opened_as(kind)
            until("the broker has its route", lambda: remoting.route(ns.address, "It-timer")[0] == QUEUES, 40)
        sent += loaded(rig, ns, turn)
        have = count(broker)
        until("one more has come", lambda: count(broker) > have, 60)
        if turn == len(turns) - 1:
            until("all have come", lambda: len({m["key"] for m in came(rig, broker)}) == len(sent), 120, step=3)
        broker.process.end(how)
    broker.opened_as("5.3.3")
    none_early_or_lost(rig, sent, came(rig, broker))


@test("timer-stop")
def timer_stop(rig):
    """We stop within a second that has timer messages, and Java goes on from its beginning: none comes twice."""
    ns = rig.namesrv("5.3.3")
    broker = rig.broker(rig.ours, ns, "broker")
    topics(ns, broker, "timer")
    sent = rig.load(ns, "--longest", "30", "timer=900")
    verify.all_acknowledged(sent)
    have = count(broker)
    until("some more have come", lambda: count(broker) > have + 30, 60)
    broker.stop().opened_as("5.3.3")
    until("all have come", lambda: count(broker) >= len(sent), 120)
    found = came(rig, broker)
    none_early_or_lost(rig, sent, found)
    verify.no_duplicates(found, "what Java and we delivered")


@test("timer-snapshots")
def timer_snapshots(rig):
    """Java 5.5 keeps its wheel in snapshots; we take over after a kill and give back: each message comes, none early."""
    ns = rig.namesrv("5.5.0")
    broker = rig.broker("5.5.0", ns, "broker", timerWheelSnapshotFlush="true", timerWheelSnapshotIntervalMs=1000)
    topics(ns, broker, "timer")
    sent = []
    for turn, (kind, how) in enumerate((("5.5.0", signal.SIGKILL), (rig.ours, signal.SIGTERM), ("5.5.0", signal.SIGTERM))):
        if turn:
            broker.opened_as(kind)
            until("the broker has its route", lambda: remoting.route(ns.address, "It-timer")[0] == QUEUES, 40)
        sent += loaded(rig, ns, turn)
        if kind == "5.5.0":
            until("there is a snapshot of the wheel", lambda: glob.glob(f"{broker.store}/timerwheel.*"), 40)
        elif glob.glob(f"{broker.store}/timerwheel.*"):
            raise Failure("a snapshot is left that Java would load")
        have = count(broker)
        until("one more has come", lambda: count(broker) > have, 60)
        if turn == 2:
            until("all have come", lambda: len({m["key"] for m in came(rig, broker)}) == len(sent), 120, step=3)
        broker.process.end(how)
    broker.opened_as("5.5.0")
    none_early_or_lost(rig, sent, came(rig, broker))


def pair(rig, master_kind, slave_kind):
    """The master goes away with messages that wait; its slave, started again as master, delivers each of them."""
    ns = rig.namesrv("5.3.3")
    master = rig.broker(master_kind, ns, "master")
    topics(ns, master, "timer")
    slave = rig.broker(slave_kind, ns, "slave", id=1)
    connected(master, ns)
    settled(master, slave)
    sent = loaded(rig, ns, 0)
    have = count(master)
    until("one more has come", lambda: count(master) > have, 60)
    until("the slave holds the whole log", lambda: remoting.log_end(master.address) == remoting.log_end(slave.address), 60)
    master.process.end(signal.SIGKILL)
    slave.process.end(signal.SIGTERM)
    if count_on_disk(slave) == len(sent):
        raise Failure("nothing waits any more")
    slave.reconfigured(brokerId=0, brokerRole="ASYNC_MASTER").start()
    until("all have come", lambda: len({m["key"] for m in came(rig, slave)}) == len(sent), 120, step=3)
    none_early_or_lost(rig, sent, came(rig, slave))


@test("timer-java-slave")
def timer_java_slave(rig):
    """Our master goes, its Java slave goes on with what waits."""
    pair(rig, rig.ours, "5.3.3")


@test("timer-our-slave")
def timer_our_slave(rig):
    """A Java master goes, its slave of ours goes on with what waits."""
    pair(rig, "5.3.3", rig.ours)


def loaded(rig, ns, turn):
    more = rig.load(ns, "--longest", "60", f"timer:{turn}=100", name=f"load-{turn}")
    verify.all_acknowledged(more)
    return more


def none_early_or_lost(rig, sent, found):
    due = {m["key"]: int(m["due"]) for m in sent}
    early = [m["key"] for m in found if m["store"] < due[m["key"]]]
    lost = sorted(set(due) - {m["key"] for m in found})
    if early or lost:
        raise Failure(f"early: {verify.some(early)}; lost: {verify.some(lost)}")
    rig.note(f"{len(found) - len(due)} of {len(due)} came twice")


def count_on_disk(broker):
    """Records of the real topic in the stopped broker's queues."""
    return sum(1 for path in glob.glob(f"{broker.store}/consumequeue/It-timer/*/*") for unit in units(path))


def units(path):
    with open(path, "rb") as f:
        data = f.read()
    return [at for at in range(0, len(data), 20) if data[at + 8:at + 12] != bytes(4)]


def count(broker):
    return sum(remoting.max_offset(broker.address, "It-timer", q) for q in range(QUEUES))


def came(rig, broker):
    lines = rig.pull(broker, f"It-timer/{QUEUES}", name=f"pull-{time.monotonic_ns()}")
    return [m for m in lines if m["type"] == "message"]
