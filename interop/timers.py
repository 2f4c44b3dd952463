"""Timer messages that wait while the store is handed from us to Java and back."""
import signal
import time

import remoting
import verify
from rig import Failure, until
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
        more = rig.load(ns, "--longest", "60", f"timer:{turn}=100", name=f"load-{turn}")
        verify.all_acknowledged(more)
        sent += more
        have = count(broker)
        until("one more has come", lambda: count(broker) > have, 60)
        if turn == len(turns) - 1:
            until("all have come", lambda: len({m["key"] for m in came(rig, broker)}) == len(sent), 120, step=3)
        broker.process.end(how)
    broker.opened_as("5.3.3")
    found, due = came(rig, broker), {m["key"]: int(m["due"]) for m in sent}
    early = [m["key"] for m in found if m["store"] < due[m["key"]]]
    lost = sorted(set(due) - {m["key"] for m in found})
    if early or lost:
        raise Failure(f"early: {verify.some(early)}; lost: {verify.some(lost)}")
    rig.note(f"{len(found) - len(due)} of {len(due)} came twice")


def count(broker):
    return sum(remoting.max_offset(broker.address, "It-timer", q) for q in range(QUEUES))


def came(rig, broker):
    lines = rig.pull(broker, f"It-timer/{QUEUES}", name=f"pull-{time.monotonic_ns()}")
    return [m for m in lines if m["type"] == "message"]
