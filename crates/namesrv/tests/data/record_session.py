#!/usr/bin/env python3
"""record_session.py PORT FILE: holds the session of java-namesrv-session.jsonl with a fresh Java name server at 127.0.0.1:PORT."""
import json, socket, struct, sys, time, zlib
HOST, PORT, OUT = "127.0.0.1", int(sys.argv[1]), sys.argv[2]
conns, lines, opaque = {}, [], 0

def conn(name):
    if name not in conns:
        conns[name] = socket.create_connection((HOST, PORT), timeout=10)
    return conns[name]

def exact(s, n):
    out = b""
    while len(out) < n:
        part = s.recv(n - len(out)); assert part, "closed"
        out += part
    return out

def ask(c, code, ext=None, body=b"", version=479, about=""):
    global opaque
    opaque += 1
    header = {"code": code}
    if ext is not None: header["extFields"] = ext
    header.update({"flag": 0, "language": "JAVA", "opaque": opaque, "serializeTypeCurrentRPC": "JSON", "version": version})
    h = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    frame = struct.pack(">II", 4 + len(h) + len(body), len(h)) + h + body
    s = conn(c); s.sendall(frame)
    n = exact(s, 4); answer = n + exact(s, struct.unpack(">I", n)[0])
    lines.append({"about": about, "connection": c, "request": frame.hex(), "answer": answer.hex()})
    if code == 104: time.sleep(0.5)
    hl = struct.unpack(">I", answer[4:8])[0] & 0xffffff
    print(about, code, answer[8:8+hl].decode(), answer[8+hl:].decode()[:600])

def close(c):
    conns.pop(c).close(); time.sleep(0.5)
    lines.append({"about": "the connection closes", "connection": c})

def topic(name, perm=6, flag=0, read=8, write=8):
    return {"attributes": {}, "order": False, "perm": perm, "readQueueNums": read, "topicFilterType": "SINGLE_TAG",
            "topicName": name, "topicSysFlag": flag, "writeQueueNums": write}

def reg(c, cluster, name, id, addr, topics, counter=1, state=0, acting=False, zone=None, timeout=None, filters=(), mappings=None, about="", version=479, compressed=False, bad_crc=False):
    dv = {"counter": counter, "stateVersion": state, "timestamp": 1700000000000}
    if compressed:
        def blk(t): t = t.encode(); return struct.pack(">i", len(t)) + t
        plain = blk(json.dumps(dv, separators=(",", ":"))) + struct.pack(">i", len(topics))
        for t in topics: plain += blk("%s %d %d %d SINGLE_TAG {}" % (t["topicName"], t["readQueueNums"], t["writeQueueNums"], t["perm"]))
        plain += blk(json.dumps(list(filters))) + struct.pack(">i", 0)
        body = zlib.compress(plain, 9)
    else:
        wrap = {"dataVersion": dv, "topicConfigTable": {t["topicName"]: t for t in topics}}
        if version >= 37:
            wrap = {"filterServerList": list(filters), "topicConfigSerializeWrapper": {"dataVersion": dv, "mappingDataVersion": {"counter": 0, "stateVersion": 0, "timestamp": 1},
                "topicConfigTable": wrap["topicConfigTable"], "topicQueueMappingDetailMap": {}, "topicQueueMappingInfoMap": mappings or {}}}
        body = json.dumps(wrap, separators=(",", ":"), ensure_ascii=False).encode()
    ext = {"brokerName": name, "brokerAddr": addr, "clusterName": cluster, "haServerAddr": addr + "1", "brokerId": str(id),
           "compressed": str(compressed).lower(), "bodyCrc32": "7" if bad_crc else str(zlib.crc32(body) & 0x7fffffff)}
    if acting is not None: ext["enableActingMaster"] = str(acting).lower()
    if timeout: ext["heartbeatTimeoutMillis"] = str(timeout)
    if zone: ext["__ZONE_NAME"] = zone
    ask(c, 103, ext, body, version, about)

def route(t, about="", **kw):
    ext = {"topic": t}; ext.update(kw)
    for v in (317, 479): ask("client", 105, ext, b"", v, about)

def gone(cluster, name, id, addr, about=""):
    ask("client", 104, {"brokerName": name, "brokerAddr": addr, "clusterName": cluster, "brokerId": str(id)}, about=about)

C = "DefaultCluster"
for code in (106, 206, 304, 311, 312, 313): ask("client", code, about="empty tables")
route("Common", "unknown topic")
ask("client", 901, {"clusterName": C, "brokerName": "nobody"}, about="unknown group")
ask("client", 101, {"namespace": "N", "key": "k"}, about="unknown key")
ask("client", 219, {"namespace": "N"}, about="unknown namespace")
ask("client", 322, {"brokerName": "b", "brokerAddr": "10.0.0.1:1", "clusterName": C, "brokerId": "0"}, b'{"counter":1,"stateVersion":0,"timestamp":1}', about="unknown broker")
ask("client", 904, {"brokerName": "b", "brokerAddr": "10.0.0.1:1", "clusterName": C}, about="heartbeat of an unknown broker")
ask("client", 9999, about="unknown code")
ask("client", 318, body=b"kvConfigPath=/elsewhere\n", about="black list")
ask("client", 318, body=b"supportActingMaster=true\norderMessageEnable=true\n", about="switches")
base = [topic("Common"), topic("A2", flag=1), topic("A3", flag=3), topic("A4", flag=2, perm=4, read=1, write=2)]
reg("a", C, "broker-a", 0, "10.0.0.1:10911", base, about="a master")
reg("b", C, "broker-a", 1, "10.0.0.2:10911", base, about="its slave", filters=["10.0.0.2:7000", "10.0.0.2:7001"])
route("Common", "a pair with filter servers")
reg("c", C, "broker-b", 0, "10.0.0.3:10911", [topic("Common", read=4, write=4), topic("B2")], about="a second group", timeout=10000)
reg("d", C, "raft-0", 0, "10.0.0.4:10911", [topic("Common"), topic("R2")], about="a broker from before 5.0", acting=None, version=399)
reg("e", "Größe", "zone1-broker", 0, "10.0.0.5:10911", [topic("Common"), topic("Z2")], about="a second cluster with a zone", zone="z1")
reg("f", C, "ancient", 0, "10.0.0.6:10911", [topic("Common"), topic("O2")], about="a body without filter servers", acting=None, version=30)
reg("g", C, "packed", 0, "10.0.0.7:10911", [topic("Common"), topic("P2", perm=4)], about="a compressed body", compressed=True)
route("Common", "seven groups")
route("Common", "one zone", __ZONE_MODE="true", __ZONE_NAME="Z1")
ask("client", 105, {"topic": "Common", "acceptStandardJsonOnly": "true"}, b"", 317, "standard JSON for an old client")
reg("x", C, "broker-x", 0, "10.0.0.9:10911", [topic("One")], about="one topic before all")
gone(C, "broker-x", 0, "10.0.0.9:10911", "what Java kept of it")
reg("x", C, "broker-x", 0, "10.0.0.9:10911", base, about="a wrong checksum", bad_crc=True)
reg("a", C, "broker-a", 0, "10.0.0.1:10911", [topic("Later")], counter=2, about="one topic later")
route("Later", "one topic later")
m = {"Static": {"bname": "broker-a", "currIdMap": {"0": 0, "1": 1}, "dirty": False, "epoch": 1700000000000, "scope": "__global__", "topic": "Static", "totalQueues": 8}}
reg("a", C, "broker-a", 0, "10.0.0.1:10911", base + [topic("Static")], counter=3, mappings=m, about="a static topic")
route("Static", "a static topic")
ask("client", 100, {"namespace": "ORDER_TOPIC_CONFIG", "key": "A2", "value": "broker-a:8"}, about="order configuration")
ask("client", 101, {"namespace": "ORDER_TOPIC_CONFIG", "key": "A2"}, about="order configuration")
ask("client", 219, {"namespace": "ORDER_TOPIC_CONFIG"}, about="order configuration")
route("A2", "order configuration")
reg("b", C, "broker-a", 1, "10.0.0.2:10911", base, counter=3, about="order configuration to a broker")
ask("client", 102, {"namespace": "ORDER_TOPIC_CONFIG", "key": "A2"}, about="deletion")
ask("client", 219, {"namespace": "ORDER_TOPIC_CONFIG"}, about="an empty namespace")
for code in (106, 206, 304, 311, 312, 313): ask("client", code, about="full tables")
ask("client", 224, {"cluster": C}, about="topics of a cluster")
ask("client", 224, {"cluster": "unknown"}, about="topics of an unknown cluster")
ask("client", 205, {"brokerName": "broker-a"}, about="wipe")
route("A2", "wiped")
ask("client", 327, {"brokerName": "broker-a"}, about="add")
route("A4", "added")
ask("client", 205, {"brokerName": "nobody"}, about="wipe nobody")
ask("client", 322, {"brokerName": "broker-a", "brokerAddr": "10.0.0.1:10911", "clusterName": C, "brokerId": "0"}, b'{"counter":3,"stateVersion":0,"timestamp":1700000000000}', about="same version")
ask("client", 322, {"brokerName": "broker-a", "brokerAddr": "10.0.0.1:10911", "clusterName": C, "brokerId": "0"}, b'{"counter":4,"stateVersion":0,"timestamp":1700000000000}', about="other version")
ask("client", 216, {"topic": "Common", "clusterName": "Größe"}, about="delete at one cluster")
route("Common", "deleted at one cluster")
ask("client", 216, {"topic": "B2"}, about="delete")
route("B2", "deleted")
ask("client", 217, {"topic": "Single"}, json.dumps({"queueDatas": [{"brokerName": "broker-b", "perm": 6, "readQueueNums": 3, "topicSysFlag": 0, "writeQueueNums": 3}]}).encode(), about="single topic")
route("Single", "single topic")
ask("client", 217, {"topic": "Single2"}, json.dumps({"queueDatas": [{"brokerName": "broker-b", "perm": 6}, {"brokerName": "nobody", "perm": 6}]}).encode(), about="single topic of an unknown broker")
route("Single2", "single topic of an unknown broker")
S = "rmq_sys_SYNC_BROKER_MEMBER_acting"
act = [topic("Act"), topic(S, perm=1)]
for i in (0, 1, 2): reg("act%d" % i, C, "acting", i, "10.0.1.%d:10911" % i, act, acting=True, timeout=10000, about="a group with acting masters")
route("Act", "with its master")
gone(C, "acting", 0, "10.0.1.0:10911", "the master leaves")
route("Act", "acting master"); route(S, "a broker looks for its group")
ask("client", 901, {"clusterName": C, "brokerName": "acting"}, about="members")
reg("act1", C, "acting", 1, "10.0.1.1:10911", act, acting=True, timeout=10000, counter=2, about="the acting master again")
route("Act", "acting master again")
reg("act1", C, "acting", 0, "10.0.1.1:10911", act, acting=True, timeout=10000, counter=3, about="promoted in place")
route("Act", "promoted")
reg("o", C, "orphan", 2, "10.0.2.2:10911", [topic("Orphan"), topic("Orphan2")], acting=True, about="a slave without master")
route("Orphan", "a slave without master")
reg("r1", C, "raft-1", 0, "10.0.3.1:10911", [topic("Raft"), topic("Raft2")], state=5, about="epoch 5")
reg("r2", C, "raft-1", 0, "10.0.3.2:10911", [topic("Raft"), topic("Raft2")], state=4, about="epoch 4 is ignored")
ask("client", 901, {"clusterName": C, "brokerName": "raft-1"}, about="members")
reg("r2", C, "raft-1", 0, "10.0.3.2:10911", [topic("Raft"), topic("Raft2")], state=6, about="epoch 6 replaces")
ask("client", 901, {"clusterName": C, "brokerName": "raft-1"}, about="members")
close("c")
route("Common", "without the group whose connection closed"); route("Single", "without its only group")
gone(C, "broker-a", 0, "10.0.0.1:10911", "the master leaves a pair without acting masters")
route("A2", "only a slave left")
gone(C, "broker-a", 1, "10.0.0.2:10911", "the slave leaves too")
gone("Größe", "zone1-broker", 0, "10.0.0.5:10911", "the last broker of a cluster")
ask("client", 106, about="the rest"); ask("client", 206, about="the rest")
open(OUT, "w").write("".join(json.dumps(l) + "\n" for l in lines))
