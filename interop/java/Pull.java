import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * Reads whole queues from one broker, a slave if need be, with no name server in between.
 *
 *   Pull --broker HOST:PORT --out FILE TOPIC/QUEUES...
 *
 * A message of a batch queue is told with its own key and queue offset, one of a light queue with its offset there.
 * Lines: type "message" with topic, queue, offset, physical, key, tag, size, crc, store, times, msgId, realTopic; type "queue" with
 * topic, queue, min, max, earliest; type "time" with topic, queue, time, offset: the answers of the broker to offset-by-time.
 */
public final class Pull {
    static final int PULL = 11, BY_TIME = 29, MAX = 30, MIN = 31, EARLIEST = 32;
    static final int OK = 0, RETRY_AT_ONCE = 20;
    static final int INNER_BATCH = 0x80;
    static final String LIGHT = "%LMQ%";
    static RemotingClient client;
    static String broker;
    static Common.Lines out;

    public static void main(String[] args) throws Exception {
        Map<String, String> options = Common.options(args);
        broker = options.get("broker");
        out = new Common.Lines(options.get("out"));
        client = new NettyRemotingClient(new NettyClientConfig());
        client.start();
        int messages = 0;
        for (String arg : args) {
            String[] parts = arg.split("/");
            if (parts.length != 2 || arg.startsWith("/")) continue;
            for (int queue = 0; queue < Integer.parseInt(parts[1]); queue++) messages += queue(parts[0], queue);
        }
        client.shutdown();
        out.close();
        Common.say("pull ends: %d messages", messages);
        System.exit(0);
    }

    static int queue(String topic, int queue) throws Exception {
        long min = number(MIN, topic, queue, "offset"), max = number(MAX, topic, queue, "offset");
        long earliest = min == max ? -1 : number(EARLIEST, topic, queue, "timestamp");
        out.write("type", "queue", "topic", topic, "queue", queue, "min", min, "max", max, "earliest", earliest);
        List<Long> times = new ArrayList<>();
        int messages = 0;
        for (long at = min; at < max; ) {
            RemotingCommand answer = pull(topic, queue, at);
            if (answer.getCode() == OK) messages += messages(answer.getBody(), topic, times);
            else if (answer.getCode() != RETRY_AT_ONCE) throw new IllegalStateException(topic + "/" + queue + " at " + at + ": code " + answer.getCode() + " " + answer.getRemark());
            long next = Long.parseLong(answer.getExtFields().get("nextBeginOffset"));
            if (next <= at) throw new IllegalStateException(topic + "/" + queue + " does not move on from " + at + ", code " + answer.getCode());
            at = next;
        }
        TreeSet<Long> instants = new TreeSet<>();
        for (int i = 0; i < times.size(); i += 1 + times.size() / 5) instants.add(times.get(i));
        if (!times.isEmpty()) instants.add(times.get(times.size() - 1) + 1);
        for (long t : instants) out.write("type", "time", "topic", topic, "queue", queue, "time", t, "offset", number(BY_TIME, topic, queue, "offset", "timestamp", t));
        return messages;
    }

    static int messages(byte[] body, String topic, List<Long> times) throws Exception {
        int n = 0;
        for (ByteBuffer b = ByteBuffer.wrap(body); b.hasRemaining(); n++) {
            MessageExt m = MessageDecoder.decode(b, true, true);
            if (m == null) throw new IllegalStateException("a message of " + topic + " cannot be decoded");
            times.add(m.getStoreTimestamp());
            if ((m.getSysFlag() & INNER_BATCH) == 0) {
                message(m, m, topic, topic.startsWith(LIGHT) ? 0 : m.getQueueId(), topic.startsWith(LIGHT) ? lightOffset(m, topic) : m.getQueueOffset());
                continue;
            }
            int i = 0;
            for (Message inner : MessageDecoder.decodeMessages(ByteBuffer.wrap(m.getBody()))) message(m, inner, topic, m.getQueueId(), m.getQueueOffset() + i++);
        }
        return n;
    }

    static void message(MessageExt record, Message m, String topic, int queue, long offset) {
        out.write("type", "message", "topic", topic, "queue", queue, "offset", offset, "physical", record.getCommitLogOffset(),
            "key", m.getKeys(), "tag", m.getTags(), "size", m.getBody().length, "crc", Common.crc(m.getBody()), "store", record.getStoreTimestamp(),
            "times", record.getReconsumeTimes(), "msgId", record.getMsgId(), "realTopic", record.getTopic());
    }

    static long lightOffset(MessageExt m, String queue) {
        String[] queues = m.getProperty("INNER_MULTI_DISPATCH").split(","), offsets = m.getProperty("INNER_MULTI_QUEUE_OFFSET").split(",");
        return Long.parseLong(offsets[Arrays.asList(queues).indexOf(queue)]);
    }

    static RemotingCommand pull(String topic, int queue, long offset) throws Exception {
        return call(PULL, "consumerGroup", "TOOLS_CONSUMER", "topic", topic, "queueId", queue, "queueOffset", offset, "maxMsgNums", 32, "sysFlag", 4,
            "commitOffset", 0, "suspendTimeoutMillis", 0, "subscription", "*", "subVersion", 0, "expressionType", "TAG");
    }

    static long number(int code, String topic, int queue, String field, Object... more) throws Exception {
        Object[] fields = new Object[4 + more.length];
        fields[0] = "topic";
        fields[1] = topic;
        fields[2] = "queueId";
        fields[3] = queue;
        System.arraycopy(more, 0, fields, 4, more.length);
        RemotingCommand answer = call(code, fields);
        if (answer.getCode() != OK) throw new IllegalStateException(topic + "/" + queue + ": request " + code + " is answered " + answer.getCode() + " " + answer.getRemark());
        return Long.parseLong(answer.getExtFields().get(field));
    }

    static RemotingCommand call(int code, Object... fields) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(code, null);
        HashMap<String, String> ext = new HashMap<>();
        for (int i = 0; i < fields.length; i += 2) ext.put((String) fields[i], fields[i + 1].toString());
        request.setExtFields(ext);
        return client.invokeSync(broker, request, 10000);
    }
}
