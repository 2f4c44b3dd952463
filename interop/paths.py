"""A commit log in several directories, handed from Java to us and back."""
import os
import signal
import subprocess

import remoting
import verify
from rig import TANDEM, Failure, until
from tests import QUEUES, test, topics

SEGMENT = 32 << 10
KINDS = ("sync", "batch")


def segments(folders):
    """{name: number of the folder}; a name is in one folder alone."""
    found = {}
    for number, folder in enumerate(folders):
        for name in os.listdir(folder):
            if found.setdefault(name, number) != number:
                raise Failure(f"segment {name} is in two directories")
    return found


def in_turns(folders):
    """Both brokers place segments by their number: each next one lies in the next directory."""
    found = sorted((int(name) // SEGMENT, number) for name, number in segments(folders).items())
    wrong = [(segment, number) for segment, number in found if segment % len(folders) != number]
    if wrong or len(found) < 2 * len(folders):
        raise Failure(f"of {len(found)} segments these lie elsewhere (number, directory): {wrong}")


def multi_path(rig, version):
    """Java writes, we serve all of it and write on, through a kill, then Java again. (Java forgets keys at an open after a kill.)"""
    ns = rig.namesrv(version)
    folders = [f"{rig.folder}/disk-{letter}" for letter in "abc"]
    broker = rig.broker(version, ns, "broker", storePathCommitLog=",".join(folders), mappedFileSizeCommitLog=SEGMENT)
    topics(ns, broker, *KINDS)
    sent, before = [], []
    turns = ((version, signal.SIGTERM), (rig.ours, signal.SIGKILL), (rig.ours, signal.SIGTERM), (version, signal.SIGTERM))
    for turn, (kind, how) in enumerate(turns):
        who = f"{'ours' if kind == rig.ours else 'Java'} at turn {turn}"
        if turn:
            broker.opened_as(kind)
        until("the broker has its route", lambda: remoting.route(ns.address, "It-sync")[0] == QUEUES, 40)
        again = rig.pull(broker, *(f"It-{kind}/{QUEUES}" for kind in KINDS), name=f"pull-{turn}")
        gone = [m for m in before if m["type"] == "message" and m not in again]
        if gone:
            raise Failure(f"{who} does not serve {len(gone)} messages as before: {gone[0]}")
        more = rig.load(ns, *(f"{kind}:{turn}=150" for kind in KINDS), name=f"load-{turn}")
        verify.all_acknowledged(more)
        sent += more
        before = rig.pull(broker, *(f"It-{kind}/{QUEUES}" for kind in KINDS), name=f"pull-after-{turn}")
        verify.queues_are_whole(before, who)
        verify.where_acknowledged(sent, before, who)
        broker.process.end(how)
        in_turns(folders)
        if rig.ours == TANDEM:
            checked = subprocess.run([rig.suite.tandem, "store", "verify", broker.store, "--quiet", "--commitlog", ",".join(folders)],
                                     capture_output=True, text=True)
            if checked.returncode:
                raise Failure(f"{who} leaves a store that is not sound: {checked.stdout[-1500:]}{checked.stderr[-500:]}")
    rig.note(f"{len(sent)} messages in {len(segments(folders))} segments of {len(folders)} directories")


test("multi-path", "5.5.0")(multi_path)
