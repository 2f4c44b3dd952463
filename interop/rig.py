"""Starts and ends the processes of a test: name servers, brokers, client programs, each of Java or of Tandem."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import remoting
from compare import compare, compare_tables

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = f"{ROOT}/target/interop"
SERVERS, CLIENTS = ("5.3.3", "5.5.0"), ("5.5.0", "5.3.3", "4.9.7")
OLD = "4.9.7"                               # the server too, where stores of old brokers matter
OTHERS = ("go", "node", "python")                     # clients of other languages; they stand where a version of Java's may stand
TANDEM = "tandem"
CLUSTER = "DefaultCluster"
READY_SECONDS = 120

OPENS = ["--add-exports=java.base/sun.nio.ch=ALL-UNNAMED"] + [
    f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in ("sun.nio.ch", "java.nio", "jdk.internal.ref", "java.lang", "java.util", "java.math")]
SMALL = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx256m"]
CLIENT = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms128m", "-Xmx768m"]
BROKER = ["-XX:+UseSerialGC", "-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"]

# Small files, so that every test sees them roll; short delays, so that retries and delayed messages come soon.
SIZES = {"mappedFileSizeCommitLog": 16 << 20, "mappedFileSizeConsumeQueue": 20 * 2000, "maxHashSlotNum": 20000, "maxIndexNum": 80000}
# What others have on the disk makes no broker delete young messages. Java refuses new ones above 90 % whatever is configured.
SPACE = {"diskMaxUsedSpaceRatio": 95, "cleanFileForciblyEnable": "false", "diskReservedBytes": 0, "diskSpaceWarningLevelRatio": 100}
# Patience with a machine that is busy with other work: Java sheds load after 200 ms in a queue.
PATIENCE = {"waitTimeMillsInSendQueue": 5000, "osPageCacheBusyTimeOutMills": 5000}
DELAYS = "1s 2s 1s 2s 1s 2s 3s 4s 5s 6s 7s 8s 9s 10s 20s 30s 1h 2h"


class Failure(Exception):
    """A test did not hold."""


class NotReady(Exception):
    """The suite itself cannot run here."""


def until(what, predicate, seconds=30, step=0.1, process=None, show=None):
    """Asks `predicate` until it is true; an exception counts as "not yet". Returns what it returned. `show` tells what is missing."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            value = predicate()
            if value:
                return value
            last = value
        except (OSError, KeyError, ValueError, remoting.Refused) as e:
            last = repr(e)
        if process is not None and not process.alive():
            raise Failure(f"{process.name} ended (code {process.popen.returncode}) while waiting for: {what}")
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what} ({show() if show else last})")
        time.sleep(step)


# ------------------------------------------------------------------------------------------------------ Java's parts

def disk_space():
    disk = shutil.disk_usage(ROOT)
    percent = 100 * disk.used // (disk.used + disk.free)
    if percent >= 90:
        raise NotReady(f"the disk of {ROOT} is {percent} % full: Java's brokers refuse messages there; free some space")


def java_version():
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise NotReady(f"{tool} is missing: the interop suite needs a Java 17 development kit and Maven")
    text = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    major = re.search(r'version "(\d+)', text)
    if not major or int(major.group(1)) < 17:
        raise NotReady(f"Java 17 or newer is needed, found: {text.splitlines()[0] if text else 'nothing'}")


def lib(version):
    return f"{TARGET}/lib-{version}"


def classes(version):
    return f"{TARGET}/classes-{version}"


def fetch(version):
    """Copies the jars of a version once, and compiles the programs of java/ against them."""
    server = version in SERVERS
    if not all(os.path.exists(f"{lib(version)}/{n}") for n in (".complete", f"rocketmq-broker-{version}.jar")):
        done = subprocess.run(["mvn", "-q", "-B", "-f", f"{ROOT}/interop/pom.xml", f"-Drocketmq={version}",
                               "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={lib(version)}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise NotReady(f"Maven cannot fetch RocketMQ {version}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        open(f"{lib(version)}/.complete", "w").close()
    sources = [f"{ROOT}/interop/java/{n}.java" for n in ("Common", "Load", "Drain", "Pull", "Ask", "Uses") + (("Admin", "Unpack") if server else ())]
    stamp = f"{classes(version)}/.complete"
    if not os.path.exists(stamp) or os.path.getmtime(stamp) < max(map(os.path.getmtime, sources)):
        done = subprocess.run(["javac", "-nowarn", "-Xlint:none", "-cp", f"{lib(version)}/*", "-d", classes(version)] + sources,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise NotReady(f"the programs of interop/java do not compile against {version}:\n{done.stderr[-3000:]}")
        open(stamp, "w").close()


def fetch_others():
    """Builds the client programs of other languages; their libraries come by name from the registries of Go, Node and Python."""
    for tool in ("go", "node", "npm"):
        if shutil.which(tool) is None:
            raise NotReady(f"{tool} is missing: the interop suite runs the clients of Go and Node too")
    python = f"{TARGET}/python"
    made = [] if os.path.exists(f"{python}/bin/pip") else [(ROOT, [sys.executable, "-m", "venv", python])]
    os.makedirs(f"{TARGET}/node", exist_ok=True)
    for name in ("package.json", "package-lock.json", "client.js"):
        shutil.copy(f"{ROOT}/interop/node/{name}", f"{TARGET}/node/{name}")
    for folder, command in ((f"{ROOT}/interop/go", ["go", "build", "-o", f"{TARGET}/go-client", "."]),
                            (f"{TARGET}/node", ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]), *made,
                            (ROOT, [f"{python}/bin/pip", "install", "-q", "-r", f"{ROOT}/interop/python/requirements.txt"])):
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise NotReady(f"{' '.join(command)} fails:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


# --------------------------------------------------------------------------------------------------------- processes

class Process:
    """One process in a group of its own; what it prints goes to `home`/out."""

    def __init__(self, name, home, command):
        self.name, self.home, self.command, self.out = name, home, command, f"{home}/out"
        os.makedirs(f"{home}/tmp", exist_ok=True)
        self.offset = os.path.getsize(self.out) if os.path.exists(self.out) else 0
        with open(self.out, "ab") as out:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=home, start_new_session=True)

    def alive(self):
        return self.popen.poll() is None

    def said(self):
        """What this process has printed (not an earlier one of the same home)."""
        with open(self.out, "rb") as f:
            f.seek(self.offset)
            return f.read().decode("utf-8", "replace")

    def ready(self, text="boot success", seconds=READY_SECONDS):
        until(f"{self.name} says \"{text}\"", lambda: text in self.said(), seconds, 0.05, self)
        return self

    def end(self, how=signal.SIGTERM, seconds=60):
        if self.alive():
            try:
                os.killpg(self.popen.pid, how)
            except ProcessLookupError:
                pass
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {seconds} s after {signal.Signals(how).name}") from None

    def finish(self, seconds):
        """Waits for the end of a program that ends by itself, returns its code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {seconds} s; it said: {self.said()[-300:]}") from None

    def sweep(self):
        """No way out: ends whatever is left of the group."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.popen.wait()

    def tail(self, lines=12):
        text = [f"--- {self.name}, end of its output"] + [line for line in self.said().splitlines() if " |-" not in line][-lines:]
        for folder, _, names in os.walk(f"{self.home}/logs"):
            for n in sorted(names):
                if n in ("broker.log", "namesrv.log", "store.log", "storeerror.log", "rocketmq_client.log"):
                    with open(f"{folder}/{n}", errors="replace") as f:
                        bad = [line.rstrip()[:300] for line in f if " WARN " in line or " ERROR " in line]
                    text += [f"--- {self.name}, last warnings of {n}"] + bad[-lines // 2:] if bad else []
        return "\n".join(text)


class Server:
    """A name server or broker that can be started again on its data."""

    def __init__(self, rig, kind, name, role, config, address):
        self.rig, self.kind, self.name, self.role, self.address = rig, kind, name, role, address
        self.home = f"{rig.folder}/{name}"
        self.store = f"{self.home}/store"
        self.process = None
        os.makedirs(f"{self.home}/conf", exist_ok=True)
        self.file = f"{self.home}/conf/{role}.conf"
        self.config = {}
        self.reconfigured(**config)

    def reconfigured(self, **more):
        """The same with other keys, from the next start on."""
        self.config.update(more)
        with open(self.file, "w") as f:
            f.writelines(f"{k}={v}\n" for k, v in self.config.items())
        return self

    def start(self):
        if self.kind == TANDEM:
            command = [self.rig.suite.tandem, self.role, "-c", self.file, *self.rig.properties]
        else:
            if self.kind == OLD:
                self.old_log()
            main = "org.apache.rocketmq.namesrv.NamesrvStartup" if self.role == "namesrv" else "org.apache.rocketmq.broker.BrokerStartup"
            command = self.rig.java(self.kind, self.home, SMALL if self.role == "namesrv" else BROKER, self.role, main, ["-c", self.file])
        self.process = self.rig.spawn(f"{self.name} ({self.kind})", self.home, command).ready()
        return self

    def old_log(self):
        """Servers of 4.x do not start without a log configuration in conf/."""
        with open(f"{self.home}/conf/logback_{self.role}.xml", "w") as f:
            f.write(f"""<configuration>
  <appender name="F" class="ch.qos.logback.core.FileAppender">
    <file>{self.home}/logs/rocketmqlogs/{self.role}.log</file>
    <encoder><pattern>%d %p %t - %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="F"/></root>
</configuration>
""")

    def stop(self):
        self.process.end()
        return self

    def kill(self):
        self.process.end(signal.SIGKILL)
        return self

    def opened_as(self, kind):
        """The same data and configuration under another implementation."""
        self.kind = kind
        return self.start()


def free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("", port))
        except OSError:
            return False
    return True


class Rig:
    """What one test has: a folder, a range of ports, its processes."""

    def __init__(self, suite, name, first_port):
        self.suite, self.name, self.first_port = suite, name, first_port
        self.folder = f"{TARGET}/run/{name}"
        self.ours, self.quick = suite.ours, suite.quick
        self.processes, self.notes, self.next_port = [], [], first_port
        self.properties = []                    # "-DKEY=VALUE" of every process of the test, Java's and ours
        self.lock = threading.Lock()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)

    def note(self, text):
        self.notes.append(text)

    def port(self):
        """A free port P of this test's range whose neighbours P-2 (fast port) and P+1 (replication) are free too."""
        while self.next_port + 10 < self.first_port + self.suite.ports_each:
            self.next_port += 10
            if all(free(p) for p in (self.next_port - 2, self.next_port, self.next_port + 1)):
                return self.next_port
        raise Failure(f"no free port between {self.first_port} and {self.next_port}")

    def java(self, version, home, flags, log, main, args):
        return ["java", *flags, *self.properties, *OPENS, f"-Duser.home={home}", f"-Djava.io.tmpdir={home}/tmp", f"-Drocketmq.home.dir={home}",
                f"-Drmq.logback.configurationFile=rmq.{log}.logback.xml", f"-Drocketmq.client.logRoot={home}/logs/rocketmqlogs",
                "-Dio.netty.allocator.numDirectArenas=2", "-cp", f"{classes(version)}:{lib(version)}/*", main, *map(str, args)]

    def spawn(self, name, home, command):
        if self.suite.stopped.is_set():
            raise Failure("interrupted")
        os.makedirs(home, exist_ok=True)
        process = Process(name, home, command)
        with self.lock:
            self.processes.append(process)
        return process

    def namesrv(self, kind, name="ns", **more):
        port = self.port()
        # Both keep it in the user's home otherwise, for the tests to come.
        config = {"listenPort": port, "kvConfigPath": f"{self.folder}/{name}/kvConfig.json", **more}
        return Server(self, kind, name, "namesrv", config, f"127.0.0.1:{port}").start()

    def broker(self, kind, ns, name, group="broker-a", id=0, role=None, start=True, **more):
        port = self.port()
        config = {"brokerClusterName": CLUSTER, "brokerName": group, "brokerId": id, "brokerRole": role or ("SLAVE" if id else "ASYNC_MASTER"),
                  "listenPort": port, "haListenPort": port + 1, "namesrvAddr": ns.address, "brokerIP1": "127.0.0.1", "brokerIP2": "127.0.0.1",
                  "storePathRootDir": f"{self.folder}/{name}/store", "storePathCommitLog": f"{self.folder}/{name}/store/commitlog",
                  "flushDiskType": "ASYNC_FLUSH", "deleteWhen": "04", "fileReservedTime": 72,
                  "messageDelayLevel": DELAYS, **SIZES, **SPACE, **PATIENCE, **more}
        server = Server(self, kind, name, "broker", config, f"127.0.0.1:{port}")
        return server.start() if start else server

    def program(self, version, main, *args, name=None):
        """Starts one of the programs of interop/java with the client of `version`, or the same of another language."""
        name = name or main.lower()
        home = f"{self.folder}/{name}"
        if version in OTHERS:
            client = {"go": [f"{TARGET}/go-client"], "node": ["node", f"{TARGET}/node/client.js"],
                      "python": [f"{TARGET}/python/bin/python", f"{ROOT}/interop/python/client.py"]}[version]
            return self.spawn(f"{name} (client {version})", home, [*client, main.lower(), *map(str, args)])
        return self.spawn(f"{name} (client {version})", home, self.java(version, home, CLIENT, "client", main, args))

    def run(self, version, main, *args, name=None, seconds=120):
        process = self.program(version, main, *args, name=name)
        if process.finish(seconds):
            raise Failure(f"{process.name} failed: {process.said()[-400:]}")
        return process

    def load(self, ns, *args, version="5.3.3", name="load", seconds=120):
        """Sends, returns the lines of what was sent."""
        out = f"{self.folder}/{name}.jsonl"
        self.run(version, "Load", "--ns", ns.address, "--out", out, *args, name=name, seconds=seconds)
        return read_lines(out)

    def pull(self, broker, *topics, version="5.3.3", name="pull"):
        """Reads whole queues of one broker ("TOPIC/QUEUES"), returns the lines."""
        out = f"{self.folder}/{name}.jsonl"
        self.run(version, "Pull", "--broker", broker.address, "--out", out, *topics, name=name)
        return read_lines(out)

    def drain(self, ns, *specs, version="5.3.3", name="drain", seconds=120, quiet=2000):
        """Starts push consumers, waits until they have their queues."""
        process = self.program(version, "Drain", "--ns", ns.address, "--out", f"{self.folder}/{name}.jsonl", "--seconds", seconds, "--quiet", quiet, *specs, name=name)
        process.lines = f"{self.folder}/{name}.jsonl"
        return process.ready("ready", 60)

    def drained(self, process, seconds=150):
        """Waits until the consumers have what they expect, returns the lines of what they got."""
        if process.finish(seconds) not in (0, 3):
            raise Failure(f"{process.name} failed: {process.said()[-400:]}")
        late = [line for line in process.said().splitlines() if re.search(r": (\d+) taken of (?!\1$)", line)]
        for line in late:
            self.note(line)
        return read_lines(process.lines)

    def admin(self, ns, commands, version="5.3.3", name="admin", seconds=180):
        """Runs mqadmin commands, returns their outputs."""
        home = f"{self.folder}/{name}"
        os.makedirs(home, exist_ok=True)
        with open(f"{home}/commands", "w") as f:
            f.writelines(c + "\n" for c in commands)
        process = self.spawn(f"{name} ({version})", home, self.java(version, home, SMALL, "tools", "Admin", ["--ns", ns.address, "--file", f"{home}/commands"]))
        if process.finish(seconds):
            raise Failure(f"{process.name} failed: {process.said()[-400:]}")
        parts = re.split(r"^#### (.*)\n", process.said(), flags=re.M)
        outputs = parts[2::2]
        if len(outputs) != len(commands) + 1:
            raise Failure(f"mqadmin {version} ended within its commands: {process.said()[-400:]}")
        return outputs[:-1]

    def sweep(self):
        with self.lock:
            for p in self.processes:
                p.sweep()

    def tails(self):
        return "\n".join(p.tail() for p in self.processes)


def read_lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def count_lines(path):
    """How many complete lines a file holds while it is being written."""
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as f:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: f.read(1 << 20), b""))


# ------------------------------------------------------------------------------------------------------ master, slave

def connected(master, ns):
    """Waits until the slave is registered and its replication connection has reported."""
    until("master and slave are both registered", lambda: {0, 1} <= set(remoting.members(ns.address, "broker-a")), 60)
    until("the slave replicates", lambda: remoting.slaves(master.address), 60)


def settled(master, slave, seconds=200):
    """Waits until the slave holds what the master holds. A Java slave asks for the tables a minute after its start."""
    until("the slave holds the whole log", lambda: remoting.log_end(master.address) == remoting.log_end(slave.address), 90)

    def differences():
        return compare_tables(remoting.live_tables(master.address), remoting.live_tables(slave.address))
    until("topics, groups, offsets and delay progress agree", lambda: not differences(), seconds, 0.5, show=differences)


def same_stores(rig, master, slave, rolls=0):
    """Stops both and compares everything they hold."""
    slave.stop()
    master.stop()
    segments = len(os.listdir(f"{master.store}/commitlog"))
    if segments <= rolls:
        raise Failure(f"only {segments} segments: the test does not see the log roll")
    problems, summary = compare(master.store, slave.store)
    rig.note(summary)
    if problems:
        raise Failure("master and slave differ: " + "; ".join(problems))
