"""The Python client (the C++ client of RocketMQ underneath, which its wheel brings along) against a cluster, as Load and
Drain of ../java do it: the same command lines, the same lines of output.

    client.py load  --ns HOST:PORT --out FILE [--stop FILE] KIND=COUNT...
    client.py drain --ns HOST:PORT --out FILE MODE/GROUP/TOPIC/TAGS/INSTANCES/QUEUES/EXPECT...

Kinds: sync, tags (a fifth each of TagA to TagE), retry (a third fails once), orderly. Modes: concurrent, orderly (one instance
each), broadcast. The client does not tell the queue of a message that it has sent: -1.
"""
import json
import os
import sys
import threading
import time
import zlib

from rocketmq.client import Message, Producer, PushConsumer, RecvMessage
from rocketmq.ffi import MessageModel, _CConsumeStatus as Status, dll

# Of one send, as long as the client sends nothing.
TRIES = 20

options, rest, args = {}, [], sys.argv[2:]
while args:
    arg = args.pop(0)
    if arg.startswith("--"):
        options[arg[2:]] = args.pop(0)
    else:
        rest.append(arg)
lock = threading.Lock()
out = open(options["out"], "w")


def write(**line):
    with lock:
        print(json.dumps(line), file=out, flush=True)


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def lot(producer, kind, count):
    made = 1
    while not os.path.exists(options["stop"]) if "stop" in options else made < count:
        send(producer, kind, made)
        made += 1


def send(producer, kind, i):
    key, body = f"{kind}-{i}", f"{kind} {i} ".encode() * (1 + i % 90)
    message = Message(f"It-{kind}")
    message.set_keys(key)
    message.set_body(body)
    tag = f"Tag{'ABCDE'[i % 5]}" if kind == "tags" else None
    if tag:
        message.set_tags(tag)
    if kind == "retry":
        message.set_property("fail", str(i % 3 // 2))
    line = dict(kind=kind, topic=f"It-{kind}", key=key, tag=tag, size=len(body), crc=zlib.crc32(body), queue=-1, offset=-1)
    order = {}
    if kind == "orderly":
        order = {"order": str(i % 20)}
        message.set_property("order", order["order"])
    try:
        sent = tried(lambda: producer.send_orderly(message, i % 20) if kind == "orderly" else producer.send_sync(message))
        write(**{**line, **order, "status": "SEND_OK" if sent.status == 0 else sent.status.name, "msgId": sent.msg_id, "offset": sent.offset})
    except Exception as error:
        write(**line, **order, status=str(error))
        time.sleep(0.02)


def tried(call):
    """When several threads want its table of connections at once, this client gives up before it has sent anything, and says
    that there is no route (in its log: "get timed_mutex timeout"). Against a fast broker that is a matter of seconds."""
    for _ in range(TRIES - 1):
        try:
            return call()
        except Exception as error:
            if "No route info" not in str(error):
                raise
    return call()


def load():
    producer = Producer("It-python-load", timeout=3000)
    producer.set_namesrv_addr(options["ns"])
    producer.start()
    # One after the other: threads that ask for their first routes at once get "No route info" on a busy machine.
    for kind in rest:
        send(producer, kind.split("=")[0], 0)
    threads = [threading.Thread(target=lot, args=(producer, *kind.split("=")[:1], int(kind.split("=")[1]))) for kind in rest]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def drain():
    state = {"missing": 0, "last": time.monotonic()}
    consumers = []
    for number, spec in enumerate(rest):
        how, group, topic, tags, instances, _, expect = spec.split("/")
        state["missing"] += int(expect)
        if instances != "1":
            raise SystemExit("one process is one instance of this client")

        def take(consumer, handle, group=group, topic=topic):
            m = RecvMessage(handle)
            body, fail = m.body, int(text(m.get_property("fail")) or 0)
            taken = m.reconsume_times >= fail
            write(group=group, instance="0", topic=topic, key=text(m.keys), tag=text(m.tags), size=len(body), crc=zlib.crc32(body),
                  order=text(m.get_property("order")), queue=m.queue_id, offset=m.queue_offset, times=m.reconsume_times, taken=taken)
            with lock:
                state["last"] = time.monotonic()
                state["missing"] -= taken
            return (Status.CONSUME_SUCCESS if taken else Status.RECONSUME_LATER).value

        model = MessageModel.BROADCASTING if how == "broadcast" else MessageModel.CLUSTERING
        consumer = PushConsumer(group, orderly=how == "orderly", message_model=model)
        consumer.set_namesrv_addr(options["ns"])
        consumer.set_instance_name(f"drain-{os.getpid()}-{number}")
        # Not consumer.subscribe: for a callback that fails it answers that the message was taken.
        dll.Subscribe(consumer._handle, topic.encode(), tags.encode())
        consumer._register_callback(take)
        consumer.start()
        consumers.append(consumer)
    print("ready", flush=True)
    end = time.monotonic() + float(options["seconds"])
    while time.monotonic() < end and (state["missing"] > 0 or time.monotonic() - state["last"] < 1):
        time.sleep(0.05)
    for consumer in consumers:
        consumer.shutdown()
    return 3 if state["missing"] > 0 else 0


code = load() if sys.argv[1] == "load" else drain()
out.close()
# The library's threads must not hold up the end.
os._exit(code)
