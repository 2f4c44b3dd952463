#!/usr/bin/env python3
"""Runs Tandem beside the official RocketMQ servers and clients. See README.md.

    python3 interop/run.py [--only NAME ...] [--list] [--quick] [--jobs N] [--keep] [--first-port N]
                           [--tandem PATH | --java-only [VERSION]]
"""
import argparse
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import rig
import handover                                         # noqa: F401: registers its tests
import formats                                          # noqa: F401: registers its tests
import golden                                           # noqa: F401: registers its tests
import answers                                          # noqa: F401: registers its tests
import paths                                            # noqa: F401: registers its test
import timers                                           # noqa: F401: registers its test
from tests import TESTS

# All tests together stay below the ports that systems give to outgoing connections, 32768 and up.
PORTS_EACH = 340


class Suite:
    """What all tests share."""
    ports_each = PORTS_EACH

    def __init__(self, options):
        self.tandem = os.path.abspath(options.tandem)
        self.ours = options.java_only or rig.TANDEM
        self.quick, self.keep, self.first_port = options.quick, options.keep, options.first_port
        self.stopped, self.print_lock, self.rigs = threading.Event(), threading.Lock(), []

    def prepare(self):
        rig.disk_space()
        rig.java_version()
        if self.ours == rig.TANDEM and not os.access(self.tandem, os.X_OK):
            raise rig.NotReady(f"{os.path.relpath(self.tandem)} is not there: build it with `cargo build --release`, or name it with --tandem")
        for version in sorted(set(rig.SERVERS + rig.CLIENTS)):
            rig.fetch(version)
        rig.fetch_others()

    def run(self, name, number):
        """Runs one test, prints its line, returns whether it held."""
        if self.stopped.is_set():
            return False
        start, bench, reason, tails = time.monotonic(), None, None, ""
        try:
            bench = rig.Rig(self, name, self.first_port + number * PORTS_EACH)
            self.rigs.append(bench)
            TESTS[name](bench)
        except rig.Failure as e:
            reason = str(e)
        except Exception:                               # a fault of the suite is a failure too, with its place
            reason = traceback.format_exc()
        finally:
            if bench:
                tails = bench.tails() if reason else ""
                bench.sweep()
        if self.stopped.is_set():
            return False
        with self.print_lock:
            print(f"{'FAIL' if reason else 'ok  '} {name:22} {time.monotonic() - start:6.1f} s"
                  + (f"  {reason}" if reason else "") + (f"  ({'; '.join(bench.notes)})" if bench and bench.notes else ""), flush=True)
            if reason:
                print(tails, flush=True)
        if not reason and not self.keep:
            shutil.rmtree(bench.folder, ignore_errors=True)
        return reason is None

    def stop(self):
        self.stopped.set()
        for r in self.rigs:
            r.sweep()


def main():
    parser = argparse.ArgumentParser(description="Runs Tandem beside the official RocketMQ servers and clients.")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this test only, or those that begin so (may be repeated)")
    parser.add_argument("--list", action="store_true", help="print the names of the tests")
    parser.add_argument("--quick", action="store_true", help="fewer messages")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many tests at once (2)")
    parser.add_argument("--first-port", type=int, default=20000, help=f"each test has {PORTS_EACH} ports from here on")
    parser.add_argument("--keep", action="store_true", help="keep the folders of tests that held")
    parser.add_argument("--tandem", default=f"{rig.ROOT}/target/release/tandem", metavar="PATH", help="the program under test")
    parser.add_argument("--java-only", nargs="?", const="5.3.3", choices=rig.SERVERS, help="a Java server in the place of Tandem: checks the suite itself")
    options = parser.parse_args()
    names = [n for n in TESTS if not options.only or any(n == o or n.startswith(f"{o}-") for o in options.only)]
    if options.list:
        print("\n".join(TESTS))
        return 0
    if not names:
        print(f"no test is called {' or '.join(options.only)}; see --list", file=sys.stderr)
        return 64
    suite = Suite(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    try:
        suite.prepare()
        with ThreadPoolExecutor(options.jobs) as pool:
            try:
                held = list(pool.map(lambda n: suite.run(n, list(TESTS).index(n)), names))
            except BaseException:
                suite.stop()
                raise
    except rig.NotReady as e:
        print(f"interop: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interop: interrupted", file=sys.stderr)
        return 130
    print(f"{held.count(True)} passed, {held.count(False)} failed")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
