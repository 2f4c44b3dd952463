"""The checks of the suite find what they are there to find: each case spoils something that was right."""
import copy
import os
import shutil
import struct
import tempfile
import unittest

import answers
import verify
from compare import UNIT, Log, compare, parse_json
from mqadmin import same_output
from rig import Failure

SEGMENT = 4096


def record(topic, queue, queue_offset, physical, body):
    rest = len(body).to_bytes(4, "big") + body + bytes([len(topic)]) + topic.encode() + b"\0\4k\1v\2"
    head = struct.pack(">Iiiiqqiq", 0xDAA320A7, 0, queue, 0, queue_offset, physical, 0, 1) + bytes(8) + struct.pack(">q", 1) + bytes(8) + bytes(12)
    return struct.pack(">i", 4 + len(head) + len(rest)) + head + rest


def write_store(folder, messages=40):
    """A store of one topic with two queues over several segments, as Java would lay it out."""
    log, queues = bytearray(), {0: bytearray(), 1: bytearray()}
    for i in range(messages):
        body = bytes([i]) * 200
        r = record("T", i % 2, i // 2, len(log), body)
        room = SEGMENT - len(log) % SEGMENT
        if len(r) + 8 > room:
            log += struct.pack(">iI", room, 0xCBD43194) + bytes(room - 8)
            r = record("T", i % 2, i // 2, len(log), body)
        queues[i % 2] += UNIT.pack(len(log), len(r), 0)
        log += r
    os.makedirs(f"{folder}/commitlog")
    os.makedirs(f"{folder}/config")
    for base in range(0, len(log), SEGMENT):
        with open(f"{folder}/commitlog/{base:020}", "wb") as f:
            f.write(log[base:base + SEGMENT].ljust(SEGMENT, b"\0"))
    for q, units in queues.items():
        os.makedirs(f"{folder}/consumequeue/T/{q}")
        with open(f"{folder}/consumequeue/T/{q}/{0:020}", "wb") as f:
            f.write(units.ljust(1000, b"\0"))
    texts = {"topics.json": '{"topicConfigTable":{"T":{"perm":6,"topicName":"T"}}}', "consumerOffset.json": '{"offsetTable":{"T@G":{0:5,1:7\n}}}',
             "subscriptionGroup.json": '{"subscriptionGroupTable":{"G":{"groupName":"G"}}}', "delayOffset.json": '{"offsetTable":{3:10}}'}
    for name, text in texts.items():
        with open(f"{folder}/config/{name}", "w") as f:
            f.write(text)


class CompareStores(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.a, self.b = f"{self.folder}/a", f"{self.folder}/b"
        write_store(self.a)
        shutil.copytree(self.a, self.b)

    def spoil(self, path, at, data):
        with open(f"{self.b}/{path}", "r+b") as f:
            f.seek(at)
            f.write(data)

    def problems(self, **how):
        return " | ".join(compare(self.a, self.b, **how)[0])

    def test_equal_stores_are_equal(self):
        problems, summary = compare(self.a, self.b)
        self.assertEqual(problems, [])
        self.assertIn("40 records", summary)

    def test_one_byte_of_a_body(self):
        self.spoil(f"commitlog/{SEGMENT:020}", 150, b"\xff")
        self.assertIn(f"commit logs differ from {SEGMENT + 150} on, in the record of T/", self.problems())

    def test_a_log_that_ends_early(self):
        last = sorted(os.listdir(f"{self.b}/commitlog"))[-1]
        self.spoil(f"commitlog/{last}", 0, bytes(SEGMENT))
        self.assertIn("commit logs end at", self.problems())
        self.assertNotIn("end at", self.problems(prefix=True))

    def test_a_record_that_came_in_part_is_no_difference_after_a_kill(self):
        last = Log(self.b).records[-1]
        at = last[3] + last[4]
        self.spoil(f"commitlog/{at // SEGMENT * SEGMENT:020}", at % SEGMENT - 9, bytes(9))
        self.assertIn("commit logs differ", self.problems(prefix=True))
        self.assertEqual(self.problems(prefix=True, killed=True), "")
        self.spoil("commitlog/00000000000000000000", 150, b"\xff")
        self.assertIn("commit logs differ", self.problems(prefix=True, killed=True))

    def test_a_unit(self):
        self.spoil(f"consumequeue/T/1/{0:020}", 3 * UNIT.size + 12, struct.pack(">q", 99))
        self.assertIn("consume queue T/1: unit 3", self.problems())

    def test_a_unit_that_is_missing_at_both(self):
        for store in (self.a, self.b):
            with open(f"{store}/consumequeue/T/0/{0:020}", "r+b") as f:
                f.seek(19 * UNIT.size)
                f.write(bytes(UNIT.size))
        self.assertIn("has no right unit", self.problems())

    def test_a_queue_that_is_missing(self):
        shutil.rmtree(f"{self.b}/consumequeue/T/1")
        self.assertIn("consume queue T/1: only in A", self.problems())

    def test_tables(self):
        for name, old, new, found in (("topics.json", "6", "4", "topics: T"), ("consumerOffset.json", "0:5", "0:4", "consumer offsets: T@G"),
                                      ("delayOffset.json", "10", "11", "delay progress"), ("subscriptionGroup.json", '"G"', '"H"', "groups: G")):
            with open(f"{self.a}/config/{name}") as f:
                right = f.read()
            with open(f"{self.b}/config/{name}", "w") as f:
                f.write(right.replace(old, new))
            self.assertIn(found, self.problems())

    def test_json_as_java_writes_it(self):
        self.assertEqual(parse_json('{"a":{0:1,-3:{12:"{5:x"}\n}}'), {"a": {"0": 1, "-3": {"12": "{5:x"}}})


def message(i, **other):
    return {"type": "message", "kind": "sync", "topic": "T", "queue": 0, "offset": i, "physical": 100 * i, "key": f"sync-{i}", "order": "1", "size": 3, "crc": i,
            "status": "SEND_OK", "store": 1000 + i, "born": 1000, "at": 2100, **other}


class VerifyLines(unittest.TestCase):
    def setUp(self):
        self.sent = [message(i) for i in range(10)]
        self.got = copy.deepcopy(self.sent)

    def fails(self, check, *args):
        with self.assertRaises(Failure) as e:
            check(*args)
        return str(e.exception)

    def test_what_is_right_passes(self):
        verify.all_acknowledged(self.sent)
        verify.nothing_lost(self.sent, self.got, "x")
        verify.no_duplicates(self.got, "x")
        verify.in_order(self.got, "x")
        verify.where_acknowledged(self.sent, self.got, "x")
        verify.not_early(self.got, [1, 1, 1, 1], "x")
        verify.queues_are_whole(self.got + [{"type": "queue", "topic": "T", "queue": 0, "min": 0, "max": 10, "earliest": 1000},
                                            {"type": "time", "topic": "T", "queue": 0, "time": 1004, "offset": 4}], "x")

    def test_lost(self):
        del self.got[4]
        self.assertIn("1 of 10 are lost: sync-4", self.fails(verify.nothing_lost, self.sent, self.got, "x"))

    def test_spoilt_and_strange(self):
        self.got[2]["crc"] = 77
        self.assertIn("another body: sync-2", self.fails(verify.nothing_lost, self.sent, self.got, "x"))
        self.got[2]["crc"] = 2
        self.got.append(message(99))
        self.assertIn("nobody sent: sync-99", self.fails(verify.nothing_lost, self.sent, self.got, "x"))

    def test_twice(self):
        self.got.append(self.got[3])
        self.assertIn("more than once: sync-3", self.fails(verify.no_duplicates, self.got, "x"))

    def test_order(self):
        self.got[3], self.got[4] = self.got[4], self.got[3]
        self.assertIn("came after", self.fails(verify.in_order, self.got, "x"))

    def test_refused_send(self):
        self.sent[0]["status"] = "FLUSH_SLAVE_TIMEOUT"
        self.assertIn("sync-0", self.fails(verify.all_acknowledged, self.sent))

    def test_elsewhere_than_acknowledged(self):
        self.sent[5]["offset"] = 6
        self.assertIn("sync-5 was acknowledged", self.fails(verify.where_acknowledged, self.sent, self.got, "x"))

    def test_early(self):
        self.assertIn("its delay is 2000 ms", self.fails(verify.not_early, self.got, [1, 2, 1, 2], "x"))

    def test_gap_and_time(self):
        queue = {"type": "queue", "topic": "T", "queue": 0, "min": 0, "max": 10, "earliest": 1000}
        self.assertIn("between min", self.fails(verify.queues_are_whole, self.got[:5] + self.got[6:] + [queue], "x"))
        short = dict(queue, max=queue["max"] - 1)
        self.assertIn("between min", self.fails(verify.queues_are_whole, self.got + [short], "x"))
        verify.queues_are_whole(self.got + [short], "x", growing=(queue["topic"],))
        self.assertIn("between min", self.fails(verify.queues_are_whole, self.got[:5] + self.got[6:] + [queue], "x", (queue["topic"],)))
        self.assertIn("earliest", self.fails(verify.queues_are_whole, self.got + [dict(queue, earliest=5)], "x"))
        self.assertIn("by time", self.fails(verify.queues_are_whole, self.got + [{"type": "time", "topic": "T", "queue": 0, "time": 1004, "offset": 5}], "x"))


class MqadminOutputs(unittest.TestCase):
    def test_moments_do_not_matter(self):
        java = "#Broker Name  #QID  #Last Updated\nbroker-a   0   2026-01-02 03:04:05,678\nTopic Put TPS: 0.5\n"
        ours = "#Broker Name  #QID  #Last Updated\nbroker-a      0   2027-01-02 03:04:05,111\nTopic Put TPS: 12.25\n"
        self.assertEqual(same_output("topicStatus -t T", java, ours), [])

    def test_values_do(self):
        self.assertTrue(same_output("topicStatus -t T", "broker-a 0 0 20", "broker-a 0 0 21"))
        self.assertTrue(same_output("topicStatus -t T", "broker-a 0\nbroker-a 1", "broker-a 0"))
        self.assertTrue(same_output("clusterList", "C broker-a 0 1.2.3.4:5 V5_3_3", "C broker-a 0 1.2.3.4:5"))

    def test_missing_keys(self):
        java = "".join(f"key{i} : {i}\n" for i in range(30))
        self.assertEqual(same_output("brokerStatus -b x", java, java.replace("key7 ", "ours ")), ["brokerStatus: 1 keys are missing: key7"])
        self.assertIn("nothing to compare", same_output("brokerStatus -b x", "", "")[0])

    def test_a_command_that_fails_on_both_sides_shows_nothing(self):
        self.assertIn("failed against Java", same_output("haStatus -b x", "haStatus command failed", "haStatus command failed")[0])


class Answers(unittest.TestCase):
    def of(self, code, remark="", fields=(), members=(), body=False):
        return {"code": code, "remark": remark, "fields": set(fields), "members": set(members), "body": body}

    def found(self, java, ours, how="whole", field="", code=30):
        return answers.differences((code, how, field), java, ours)

    def test_what_is_the_same(self):
        self.assertEqual(self.found(self.of(0, "", ["offset"]), self.of(0, "", ["offset", "more"])), [])
        self.assertEqual(self.found(self.of(17, "no topic"), self.of(17, "there is none")), [])
        self.assertEqual(self.found(self.of("timeout"), self.of("timeout")), [])
        self.assertEqual(self.found(self.of(1, "java.lang.NullPointerException"), self.of(29, "x"), "without", "queueId"), [])
        self.assertEqual(self.found(self.of(0), self.of(1, "the custom field <queueId> is null"), "without", "queueId"), [])

    def test_what_is_not(self):
        self.assertTrue(self.found(self.of(0, "", ["offset"]), self.of(0)))
        self.assertTrue(self.found(self.of(0, body=True), self.of(0)))
        self.assertTrue(self.found(self.of(0, "", (), ["table"], True), self.of(0, "", (), [], True)))
        self.assertTrue(self.found(self.of(1, "java.lang.NullPointerException"), self.of(0), "without", "queueId"))
        self.assertTrue(self.found(self.of(17, "no topic"), self.of(26, "no group"), "unknown", "topic"))
        self.assertTrue(self.found(self.of(0), self.of(1, "no"), "whole"))
        self.assertTrue(self.found(self.of(0), self.of("timeout")))

    def test_members_of_bodies_with_objects_for_keys(self):
        self.assertEqual(answers.members(b'{"offsetTable":{{"brokerName":"b","queueId":0}:{"maxOffset":1}},"topicPutTps":0.0}'), {"offsetTable", "topicPutTps"})
        self.assertEqual(answers.members(b"key=value"), set())


if __name__ == "__main__":
    unittest.main()
