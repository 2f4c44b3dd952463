"""Compares what mqadmin shows of two clusters that hold the same: same lines and columns once times and addresses are taken out."""
import re
from collections import Counter

# Commands whose lines are "key : value" or "key = value" with values of the moment: our keys must be all of Java's.
KEYS_ONLY = ("brokerStatus", "getBrokerConfig")
# Commands whose numbers are those of the moment: their shape must be the same.
SHAPE_ONLY = ("clusterList", "haStatus", "queryMsgById", "consumeMessage", "statsAll")
# Commands that ask for what is not there.
MUST_FAIL = ("topicStatus -t It-nowhere", "topicRoute -t It-made", "consumerProgress -g It-nobody")

VOLATILE = [
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,:]\d+)?", "TIME"), (r"\b1[6-9]\d{11}\b", "TIME"), (r"\b\d{1,3}(\.\d{1,3}){3}:\d+", "ADDRESS"),
    (r"\b\d{1,3}(\.\d{1,3}){3}\b", "IP"), (r"\b[0-9A-F]{24,}\b", "ID"), (r"\bV\d_\d+_\d+(_\w+)?\b", "VERSION"), (r"/\S*/\S+", "PATH"),
    (r"-?\b\d+\.\d+(E-?\d+)?%?", "DECIMAL"), (r"\b\d+ms\b", "MILLISECONDS"),
]
NUMBER = (r"-?\b\d+\b", "NUMBER")
NOISE = re.compile(r"^\s*(at \S+\(.*\)|\.\.\. \d+ more|OpenJDK.*|SLF4J.*|RocketMQLog.*)?\s*$")


def without_known_faults(command, text):
    """Java 5.3.3 (not 5.5.0) names a topic among its own consumer groups; nobody need do the same."""
    if command.startswith("topicList -c"):
        return re.sub(r"^\S+ +(\S+) +\1 *\n", "", text, flags=re.M)
    if command.startswith("queryMsgById"):
        topic = re.search(r"-t (\S+)", command).group(1)
        return re.sub(rf"^MessageTrack \[consumerGroup={re.escape(topic)},.*\n(See .*\n)?", "", text, flags=re.M)
    if command.startswith("statsAll"):
        return re.sub(r"^(\S+) +\1 .*\n", "", text, flags=re.M)
    if command.startswith("consumerProgress -g"):
        # An empty retry topic has progress once the consumer knew of its route, which is a matter of time.
        return re.sub(r"^%RETRY%\S+ +\S+ +0 +0 +0 +.*\n", "", text, flags=re.M)
    return text


def of_5_5(command, java, ours):
    """What 5.5.0 shows beyond 5.3.3, whose keys and system topics ours are: two topics of a store we have not, and new keys (those of 5.3.3 the other test checks)."""
    if command.startswith(("topicList", "statsAll")):
        java = re.sub(r"^.*\bRMQ_SYS_ROCKSDB_TRANS_(OP_)?HALF_TOPIC\b.*\n", "", java, flags=re.M)
    if command.startswith("getBrokerConfig"):
        shown = set(keys(ours))
        java = "".join(line for line in java.splitlines(True) if not keys(line) or keys(line)[0] in shown)
    return java


def normal(command, text):
    shape = command.split()[0] in SHAPE_ONLY or command == "consumerProgress"      # without a group it has a column of rates
    lines = []
    for line in without_known_faults(command, text).splitlines():
        if NOISE.match(line):
            continue
        for pattern, word in VOLATILE + ([NUMBER] if shape else []):
            line = re.sub(pattern, word, line)
        lines.append(" ".join(line.split()))
    return lines


def keys(text):
    """The keys; a heading such as "============ADDRESS============" is no key."""
    pairs = (re.match(r"\s*(\S+)\s*[:=](\s|$)", line) for line in text.splitlines() if not line.startswith("==="))
    return [re.sub(r"/.*", "PATH", p.group(1)) for p in pairs if p]


def same_output(command, java, ours):
    """A list of what differs, empty if nothing does. Order of lines does not matter: Java's tables come from hash maps."""
    if command.split()[0] in KEYS_ONLY:
        if len(keys(java)) < 20:
            return [f"{command.split()[0]}: Java itself shows nothing to compare with: {java[:200]}"]
        missing = sorted(set(keys(java)) - set(keys(ours)))
        return [f"{command.split()[0]}: {len(missing)} keys are missing: {' '.join(missing)}"] if missing else []
    if "command failed" in java and command not in MUST_FAIL:
        return [f"{command}: failed against Java already: {java[:300]}"]
    a, b = Counter(normal(command, java)), Counter(normal(command, ours))
    only_java, only_ours = list((a - b).elements()), list((b - a).elements())
    if not only_java and not only_ours:
        return []
    return [f"{re.sub(r'[0-9.]+:[0-9]+', 'ADDRESS', command)}: Java shows {only_java[:4]}, ours {only_ours[:4]}"]
