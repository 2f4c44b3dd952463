"""The same requests, whole and broken, to a Java broker and to ours: who answers, with which code, which fields, which body."""
import json
import re

import remoting
from rig import Failure, until
from tests import test

SEND = {"producerGroup": "P", "topic": "It-a", "defaultTopic": "TBW102", "defaultTopicQueueNums": 4, "queueId": 0, "sysFlag": 0, "bornTimestamp": 1700000000000,
        "flag": 0, "properties": "KEYS\1k\2UNIQ_KEY\1" + "A" * 32 + "\2", "reconsumeTimes": 0, "unitMode": "false", "batch": "false"}
PULL = {"consumerGroup": "It-g", "topic": "It-a", "queueId": 0, "queueOffset": 0, "maxMsgNums": 8, "sysFlag": 4, "commitOffset": 0, "suspendTimeoutMillis": 0,
        "subscription": "*", "subVersion": 1, "expressionType": "TAG"}
QUEUE = {"topic": "It-a", "queueId": 0}
BOTH = {"topic": "It-a", "group": "It-g"}
TOPIC = {"topic": "It-b", "defaultTopic": "TBW102", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6, "topicFilterType": "SINGLE_TAG", "order": "false"}
BACK = {"offset": 0, "group": "It-g", "delayLevel": 3, "originTopic": "It-a", "maxReconsumeTimes": 16}
MQ = {"brokerName": "broker-a", "queueId": 0, "topic": "It-a"}
LOCK = {"clientId": "C", "consumerGroup": "It-g", "mqSet": [MQ]}
SUBSCRIPTION = {"topic": "It-a", "subString": "*", "subVersion": 1, "expressionType": "TAG", "tagsSet": [], "codeSet": [], "classFilterMode": False}
HEARTBEAT = {"clientID": "C", "producerDataSet": [{"groupName": "P"}], "heartbeatFingerprint": 0, "withoutSub": False, "consumerDataSet": [
    {"groupName": "It-g", "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING", "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET", "unitMode": False,
     "subscriptionDataSet": [SUBSCRIPTION]}]}
SHARE = {"clientId": "C", "consumerGroup": "It-g", "topic": "It-a", "strategyName": "AVG", "messageModel": "CLUSTERING"}

# (code, fields, body), in this order; each is asked whole, and then without each of its fields, with an empty and with an unknown one.
REQUESTS = [
    (10, SEND, "x"), (15, {"consumerGroup": "It-g", **QUEUE, "commitOffset": 1}, ""), (14, {"consumerGroup": "It-g", **QUEUE}, ""), (11, PULL, ""), (361, PULL, ""),
    (12, {"topic": "It-a", "key": "k", "maxNum": 8, "beginTimestamp": 0, "endTimestamp": 4000000000000}, ""), (33, {"offset": 0}, ""),
    (29, {**QUEUE, "timestamp": 0}, ""), (30, QUEUE, ""), (31, QUEUE, ""), (32, QUEUE, ""), (36, BACK, ""), (17, TOPIC, ""), (351, {"topic": "It-a"}, ""), (202, {"topic": "It-a"}, ""),
    (200, {}, {"groupName": "It-h", "retryMaxTimes": 3}), (352, {"group": "It-g"}, ""), (208, {"consumerGroup": "It-g", "topic": "It-a"}, ""), (300, {"topic": "It-a"}, ""),
    (343, {"group": "It-g"}, ""), (303, BOTH, ""), (353, {**BOTH, "readable": "true"}, ""), (317, {"isOrder": "false"}, ""), (321, {**QUEUE, "index": 0, "count": 4}, ""),
    (314, {"srcGroup": "It-g", "destGroup": "It-h", "topic": "It-a", "offline": "false"}, ""), (222, {**BOTH, "timestamp": 0, "isForce": "true", "queueId": -1}, ""),
    (34, {}, HEARTBEAT), (38, {"consumerGroup": "It-nobody"}, ""), (203, {"consumerGroup": "It-nobody"}, ""), (204, {"producerGroup": "It-nobody"}, ""), (328, {}, ""),
    (41, {}, LOCK), (42, {}, LOCK), (46, {}, {"clientId": "C", "group": "It-g", "subscriptionData": SUBSCRIPTION}), (400, {}, SHARE), (35, {"clientID": "C", "consumerGroup": "It-g"}, ""),
    (26, {}, ""), (28, {}, ""), (315, {"statsName": "TOPIC_PUT_SIZE", "statsKey": "It-a"}, ""), (305, {}, ""), (21, {}, ""), (201, {}, ""), (43, {}, ""), (45, {}, ""), (402, {}, ""),
    (60, {}, ""), (61, {}, ""), (907, {}, ""), (906, {}, ""), (908, {"masterFlushOffset": 0}, ""), (306, {}, ""), (316, {}, ""), (329, {}, ""),
    (307, {"consumerGroup": "It-g", "clientId": "It-nobody"}, ""), (207, {"groupName": "It-h", "cleanOffset": "true"}, ""), (215, {"topic": "It-b"}, ""), (9999, {}, ""),
]
# Where ours goes on and Java fails on a null: nothing is done under a value that nobody gave.
LENIENT = {(11, "maxMsgNums"), (361, "maxMsgNums"), (11, "sysFlag"), (361, "sysFlag"), (11, "suspendTimeoutMillis"), (361, "suspendTimeoutMillis"), (11, "subVersion"),
           (361, "subVersion"), (11, "commitOffset"), (361, "commitOffset"), (17, "topicFilterType"), (35, "clientID")}
# Members of a body that ours leaves out: those of 5.5 alone, and one that is made anew by whoever reads the table.
OPTIONAL = {"groupTopicMap", "pullOffsetTable", "lmqOffsetTable"}


def answers(rig, version):
    """Java and ours answer the same requests alike; what either refuses, the other does not do."""
    sides = {}
    for side, kind in (("java", version), ("ours", rig.ours)):
        ns = rig.namesrv(kind, f"{side}-ns")
        broker = rig.broker(kind, ns, f"{side}-broker")
        remoting.create_topic(broker.address, "It-a", 2)
        remoting.create_group(broker.address, "It-g")
        until("It-a has a route", lambda: remoting.route(ns.address, "It-a")[0] == 2)
        sides[side] = {(code, *variant): answer(broker.address, code, fields, body)
                       for code, whole, body in REQUESTS for *variant, fields in variants(whole)}
        broker.stop()
        ns.stop()
    problems = [f"{' '.join(map(str, asked))}: {p}" for asked, java in sides["java"].items() for p in differences(asked, java, sides["ours"][asked])]
    rig.note(f"{len(sides['java'])} requests")
    if problems:
        raise Failure(f"{len(problems)} answers differ:\n    " + "\n    ".join(problems[:40]))


def variants(whole):
    yield "whole", "", whole
    for field in whole:
        yield "without", field, {f: v for f, v in whole.items() if f != field}
        yield "empty", field, {**whole, field: ""}
        yield "unknown", field, {**whole, field: "It-unknown"}


def answer(address, code, fields, body):
    body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    try:
        header, data = remoting.answer_of(address, code, fields, body, timeout=20)
    except OSError as e:
        return {"code": type(e).__name__, "remark": "", "fields": set(), "members": set(), "body": False}
    return {"code": header["code"], "remark": header.get("remark") or "", "fields": set(header.get("extFields") or {}), "members": members(data), "body": bool(data)}


def members(body):
    """Names of the outermost members of a body in JSON, whose keys may be objects; nothing of another body."""
    text, depth, names = body.decode("utf-8", "replace"), 0, set()
    if not text.startswith("{"):
        return names
    for token in re.finditer(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]', text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token.group(), 0)
        if depth == 1 and token.group(2):
            names.add(token.group(1))
    return names


def differences(asked, java, ours):
    code, how, field = asked
    if isinstance(ours["code"], str) or isinstance(java["code"], str):
        return [] if java["code"] == ours["code"] else [f"Java {java['code']}, ours {ours['code']}"]
    if java["code"] == 0 and ours["code"] == 0:
        return same_success(java, ours)
    threw = java["code"] == 1 and re.search("Exception|Cannot invoke", java["remark"])
    if ours["code"] == 0:
        return [] if (code, field) in LENIENT else [f"Java refuses with {java['code']} {java['remark'][:80]}, ours does it"]
    if java["code"] == ours["code"] or threw:
        return []
    # Ours may be stricter with an empty name, and where it says which field is wrong.
    stricter = how == "empty" or how != "whole" and f"<{field}>" in ours["remark"]
    return [] if stricter else [f"Java {java['code']} {java['remark'][:80]}, ours {ours['code']} {ours['remark'][:80]}"]


def same_success(java, ours):
    found = []
    if java["fields"] - ours["fields"]:
        found.append(f"fields {java['fields'] - ours['fields']} are missing")
    if java["body"] != ours["body"]:
        found.append(f"Java sends {'a' if java['body'] else 'no'} body, ours {'one' if ours['body'] else 'none'}")
    if java["members"] - ours["members"] - OPTIONAL:
        found.append(f"members {java['members'] - ours['members']} of the body are missing")
    return found


test("answers-5.3.3", "5.3.3")(answers)
test("answers-5.5.0", "5.5.0")(answers)
