import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Runs push consumers until each has got what it expects and nothing more comes, and writes one line a message.
 *
 *   Drain --ns HOST:PORT --out FILE [--seconds 120] [--quiet 2000] [--max-retries 2] SPEC...
 *
 * SPEC is MODE/GROUP/TOPIC/TAGS/INSTANCES/QUEUES/EXPECT, MODE one of concurrent, orderly, broadcast. Says "ready" when all
 * QUEUES of the topic are assigned, ends with 3 when a consumer misses something after --seconds. A message
 * with the property fail=N is answered "later" until it was tried N times. Lines: group, instance, topic, queue, offset,
 * key, tag, order, size, crc, msgId, times (how often tried before), born, store, at (now), taken (false: answered "later").
 */
public final class Drain {
    static Map<String, String> options;
    static Common.Lines out;
    static volatile long lastArrival = System.currentTimeMillis();

    public static void main(String[] args) throws Exception {
        options = Common.options(args);
        out = new Common.Lines(options.get("out"));
        List<Subscriber> subscribers = new ArrayList<>();
        for (String arg : args) if (arg.split("/").length == 7) subscribers.add(new Subscriber(arg.split("/")));
        for (Subscriber s : subscribers) s.start();
        long end = System.currentTimeMillis() + 1000L * Integer.parseInt(options.getOrDefault("seconds", "120"));
        while (!subscribers.stream().allMatch(Subscriber::assigned) && System.currentTimeMillis() < end) TimeUnit.MILLISECONDS.sleep(50);
        Common.say("ready");
        long quiet = Long.parseLong(options.getOrDefault("quiet", "2000"));
        boolean complete = false;
        while (System.currentTimeMillis() < end && !(complete && System.currentTimeMillis() > lastArrival + quiet)) {
            TimeUnit.MILLISECONDS.sleep(50);
            complete = subscribers.stream().allMatch(Subscriber::satisfied);
        }
        for (Subscriber s : subscribers) Common.say("%s", s);
        for (Subscriber s : subscribers) s.consumers.forEach(DefaultMQPushConsumer::shutdown);
        out.close();
        Common.say("drain ends");
        System.exit(complete ? 0 : 3);
    }

    static final class Subscriber {
        final String mode, group, topic, tags;
        final int instances, queues, expect;
        final List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        final Set<String> taken = ConcurrentHashMap.newKeySet();

        Subscriber(String[] spec) {
            mode = spec[0];
            group = spec[1];
            topic = spec[2];
            tags = spec[3];
            instances = Integer.parseInt(spec[4]);
            queues = Integer.parseInt(spec[5]);
            expect = Integer.parseInt(spec[6]);
        }

        void start() throws Exception {
            for (int i = 0; i < instances; i++) {
                DefaultMQPushConsumer c = new DefaultMQPushConsumer(group);
                c.setNamesrvAddr(options.get("ns"));
                c.setInstanceName(group + "-" + i);
                c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
                c.setPersistConsumerOffsetInterval(1000);
                c.setConsumeThreadMin(2);
                c.setConsumeThreadMax(2);
                c.setMaxReconsumeTimes(Integer.parseInt(options.getOrDefault("max-retries", "2")));
                c.setSuspendCurrentQueueTimeMillis(100);
                // the package of MessageModel is another in 4.x: it is not named here
                for (var model : c.getMessageModel().getDeclaringClass().getEnumConstants()) {
                    if (mode.equals("broadcast") && model.name().equals("BROADCASTING")) c.setMessageModel(model);
                }
                c.subscribe(topic, tags);
                String instance = Integer.toString(i);
                if (mode.equals("orderly")) {
                    c.registerMessageListener((MessageListenerOrderly) (list, context) -> {
                        boolean all = true;
                        for (MessageExt m : list) all &= take(instance, m);
                        return all ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    });
                } else {
                    c.registerMessageListener((MessageListenerConcurrently) (list, context) -> {
                        boolean all = true;
                        for (MessageExt m : list) all &= take(instance, m);
                        return all ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
                    });
                }
                c.start();
                consumers.add(c);
            }
        }

        boolean take(String instance, MessageExt m) {
            String fail = m.getUserProperty("fail");
            boolean ok = fail == null || m.getReconsumeTimes() >= Integer.parseInt(fail);
            lastArrival = System.currentTimeMillis();
            out.write("group", group, "instance", instance, "topic", m.getTopic(), "queue", m.getQueueId(), "offset", m.getQueueOffset(),
                "key", m.getKeys(), "tag", m.getTags(), "order", m.getUserProperty("order"), "size", m.getBody().length, "crc", Common.crc(m.getBody()),
                "msgId", m.getMsgId(), "times", m.getReconsumeTimes(), "born", m.getBornTimestamp(), "store", m.getStoreTimestamp(),
                "at", lastArrival, "taken", ok);
            if (ok) taken.add(mode.equals("broadcast") ? instance + "/" + m.getKeys() : m.getKeys());
            return ok;
        }

        boolean assigned() {
            int have = 0;
            for (DefaultMQPushConsumer c : consumers) {
                for (MessageQueue q : c.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet()) {
                    if (q.getTopic().equals(topic)) have++;
                }
            }
            return have == (mode.equals("broadcast") ? queues * instances : queues);
        }

        boolean satisfied() {
            return taken.size() >= (mode.equals("broadcast") ? expect * instances : expect);
        }

        @Override
        public String toString() {
            return String.format("%s %s: %d taken of %d", mode, group, taken.size(), mode.equals("broadcast") ? expect * instances : expect);
        }
    }
}
