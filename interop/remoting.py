"""A tiny client of the RocketMQ remoting protocol, for what the runner must ask while it waits. The tests proper use Java's."""
import itertools
import json
import socket
import ssl
import struct

from compare import parse_json, tables

QUERY, UPDATE_TOPIC, ALL_TOPICS, GET_CONFIG, RUNTIME, BY_TIME, MAX_OFFSET, ALL_OFFSETS, ALL_DELAYS = 12, 17, 21, 26, 28, 29, 30, 43, 45
PULL, QUERY_PROGRESS, UPDATE_PROGRESS, SEND_BACK = 11, 14, 15, 36
NOT_FOUND, NOTHING, NOTHING_OF_THAT_TAG = 22, 19, 20
ROUTE, CLUSTER, UPDATE_GROUP, ALL_GROUPS, HA_STATUS = 105, 106, 200, 201, 907
_numbers = itertools.count(1)


class Refused(Exception):
    """An answer with a code other than 0."""

    def __init__(self, text, code, fields=None):
        super().__init__(text)
        self.code, self.fields = code, fields or {}


def call(address, code, fields=None, body=b"", timeout=15.0):
    """Sends one request, returns (fields of the answer, body)."""
    answer, body = answer_of(address, code, fields, body, timeout)
    if answer["code"] != 0:
        raise Refused(f"{address} answers request {code} with {answer['code']}: {answer.get('remark')}", answer["code"], answer.get("extFields"))
    return answer.get("extFields") or {}, body


def answer_of(address, code, fields=None, body=b"", timeout=15.0, flag=0):
    """Sends one request, returns (header of the answer, body), whatever its code."""
    header = json.dumps({"code": code, "extFields": {k: str(v) for k, v in (fields or {}).items()}, "flag": flag, "language": "JAVA",
                         "opaque": next(_numbers), "serializeTypeCurrentRPC": "JSON", "version": 479}).encode()
    host, port = address.split(":")
    with _connection(host, int(port), timeout) as s:
        s.sendall(struct.pack(">ii", 4 + len(header) + len(body), len(header)) + header + body)
        length, = struct.unpack(">i", _exactly(s, 4))
        frame = _exactly(s, length)
    header_length = struct.unpack(">i", frame[:4])[0] & 0xFFFFFF
    return parse_json(frame[4:4 + header_length]), frame[4 + header_length:]


TLS = set()         # addresses that serve nothing else
_ANYONE = ssl.create_default_context()
_ANYONE.check_hostname, _ANYONE.verify_mode = False, ssl.CERT_NONE


def _connection(host, port, timeout):
    s = socket.create_connection((host, port), timeout=timeout)
    return _ANYONE.wrap_socket(s) if f"{host}:{port}" in TLS else s


def _exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise ConnectionError("closed in the middle of an answer")
        data += more
    return data


def ask(address, code, fields=None):
    """The body of an answer, parsed."""
    body = call(address, code, fields)[1]
    return parse_json(body) if body else {}


def create_topic(address, topic, queues, **more):
    call(address, UPDATE_TOPIC, {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues,
                                 "perm": 6, "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false", **more})


def create_group(address, group, **fields):
    call(address, UPDATE_GROUP, body=json.dumps({"groupName": group, **fields}).encode())


def runtime(address):
    return ask(address, RUNTIME)["table"]


def log_end(address):
    return int(runtime(address)["commitLogMaxOffset"])


def max_offset(address, topic, queue):
    return int(call(address, MAX_OFFSET, {"topic": topic, "queueId": queue})[0]["offset"])


def offset_by_time(address, topic, queue, time):
    return int(call(address, BY_TIME, {"topic": topic, "queueId": queue, "timestamp": time})[0]["offset"])


def query(address, topic, key, unique):
    """The physical offsets of the messages a key (or unique key) finds, in the order of the answer."""
    fields = {"topic": topic, "key": key, "maxNum": 64, "beginTimestamp": 0, "endTimestamp": (1 << 63) - 1}
    if unique:
        fields["_UNIQUE_KEY_QUERY"] = "true"
    try:
        body = call(address, QUERY, fields)[1]
    except Refused as e:
        if e.code != NOT_FOUND:
            raise
        return []
    return physical_offsets(body)


def progress(address, topic, group):
    """{queue: offset} of a group, as the broker would hand it to its slave."""
    table = ask(address, ALL_OFFSETS).get("offsetTable") or {}
    return {int(q): o for q, o in table.get(f"{topic}@{group}", {}).items()}


def pull(address, topic, queue, tag):
    """The physical offsets of the messages of a queue that a broker gives to whoever wants one tag."""
    found, at, end = [], 0, max_offset(address, topic, queue)
    while at < end:
        fields = {"consumerGroup": "TOOLS_CONSUMER", "topic": topic, "queueId": queue, "queueOffset": at, "maxMsgNums": 32, "sysFlag": 4, "commitOffset": 0,
                  "suspendTimeoutMillis": 0, "subscription": tag, "subVersion": 0, "expressionType": "TAG"}
        try:
            answer, body = call(address, PULL, fields)
        except Refused as e:
            if e.code not in (NOTHING, NOTHING_OF_THAT_TAG):
                raise
            answer, body = e.fields, b""
        found += physical_offsets(body)
        if int(answer["nextBeginOffset"]) <= at:
            raise Refused(f"{address} does not go on from {at} of {topic}/{queue}", 0)
        at = int(answer["nextBeginOffset"])
    return found


def physical_offsets(records):
    found, at = [], 0
    while at < len(records):
        found += struct.unpack_from(">q", records, at + 28)
        at += struct.unpack_from(">i", records, at)[0]
    return found


def commit(address, topic, queue, group, offset):
    call(address, UPDATE_PROGRESS, {"consumerGroup": group, "topic": topic, "queueId": queue, "commitOffset": offset})


def committed(address, topic, queue, group):
    return int(call(address, QUERY_PROGRESS, {"consumerGroup": group, "topic": topic, "queueId": queue})[0]["offset"])


def send_back(address, group, message):
    """What a consumer does with a message (a line of Load) that it could not take; it comes again after the shortest delay."""
    call(address, SEND_BACK, {"offset": int(message["offsetMsgId"][-16:], 16), "group": group, "delayLevel": 1, "originMsgId": message["msgId"],
                              "originTopic": message["topic"], "unitMode": "false", "maxReconsumeTimes": 16})


def slaves(address):
    """The addresses of the replication connections of a master that have reported."""
    return [c.get("addr") for c in ask(address, HA_STATUS).get("haConnectionInfo") or [] if c.get("slaveAckOffset", -1) >= 0]


def live_tables(address):
    return tables(ask(address, ALL_TOPICS), ask(address, ALL_GROUPS), ask(address, ALL_OFFSETS), ask(address, ALL_DELAYS))


def members(namesrv, broker):
    """{broker id: address} of a broker name in the cluster table of a name server."""
    data = (ask(namesrv, CLUSTER).get("brokerAddrTable") or {}).get(broker) or {}
    return {int(i): a for i, a in (data.get("brokerAddrs") or {}).items()}


def route(namesrv, topic):
    """(queues that can be written, {broker name: {id: address}}) of a topic; nothing if there is no route."""
    try:
        data = ask(namesrv, ROUTE, {"topic": topic, "acceptStandardJsonOnly": "true"})
    except Refused:
        return 0, {}
    brokers = {b["brokerName"]: {int(i): a for i, a in b["brokerAddrs"].items()} for b in data.get("brokerDatas") or []}
    return sum(q["writeQueueNums"] for q in data.get("queueDatas") or []), brokers
