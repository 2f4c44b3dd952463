import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullCallback;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What Java programs do besides sending and besides push consumers as they come: one check after the other.
 *
 *   Uses --ns HOST:PORT --out FILE
 *
 * Topics "Uses-NAME" have 4 queues. Lines: check, reason (null when it holds).
 */
public final class Uses {
    interface Check { void run() throws Exception; }
    static String ns;
    static Common.Lines out;
    static boolean failed;

    static void check(String name, Check check) {
        String reason = null;
        try {
            check.run();
        } catch (Throwable e) {
            StringBuilder text = new StringBuilder(e.toString());
            for (StackTraceElement at : e.getStackTrace()) if (at.getClassName().startsWith("Uses")) text.append(" at ").append(at.getLineNumber());
            reason = text.toString();
            failed = true;
        }
        out.write("check", name, "reason", reason);
        Common.say("%s %s %s", reason == null ? "ok  " : "FAIL", name, reason == null ? "" : reason);
    }

    static void that(boolean holds, String format, Object... args) {
        if (!holds) throw new IllegalStateException(String.format(format, args));
    }

    static DefaultMQProducer producer(String group) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setNamesrvAddr(ns);
        producer.setInstanceName(group + System.nanoTime());
        producer.start();
        return producer;
    }

    static List<SendResult> send(DefaultMQProducer producer, String topic, int count) throws Exception {
        List<SendResult> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            SendResult result = producer.send(new Message(topic, "Tag" + i % 2, topic + "-" + i, ("body " + i).getBytes(StandardCharsets.UTF_8)), 10000);
            that(result.getSendStatus() == SendStatus.SEND_OK, "send status %s", result.getSendStatus());
            sent.add(result);
        }
        return sent;
    }

    static DefaultLitePullConsumer lite(String group) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group);
        consumer.setNamesrvAddr(ns);
        consumer.setInstanceName(group + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        return consumer;
    }

    static CompletableFuture<PullResult> heldPull(DefaultMQPullConsumer consumer, MessageQueue queue, long from) throws Exception {
        CompletableFuture<PullResult> held = new CompletableFuture<>();
        consumer.pullBlockIfNotFound(queue, "TagX", from, 8, new PullCallback() {
            public void onSuccess(PullResult result) { held.complete(result); }
            public void onException(Throwable e) { held.completeExceptionally(e); }
        });
        return held;
    }

    static Set<String> poll(DefaultLitePullConsumer consumer, int expect) {
        Set<String> keys = new TreeSet<>();
        long end = System.currentTimeMillis() + 40000;
        while (keys.size() < expect && System.currentTimeMillis() < end) for (MessageExt m : consumer.poll(500)) keys.add(m.getKeys());
        return keys;
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> options = Common.options(args);
        ns = options.get("ns");
        out = new Common.Lines(options.get("out"));
        DefaultMQProducer producer = producer("Uses-producer");

        check("lite-subscribe", () -> {
            send(producer, "Uses-lite", 40);
            DefaultLitePullConsumer consumer = lite("Uses-lite-group");
            consumer.subscribe("Uses-lite", "Tag0");
            consumer.setAutoCommit(false);
            consumer.start();
            Set<String> got = poll(consumer, 20);
            that(got.size() == 20, "got %d of 20", got.size());
            consumer.commitSync();
            consumer.shutdown();
            DefaultLitePullConsumer again = lite("Uses-lite-group");
            again.subscribe("Uses-lite", "Tag0");
            again.start();
            send(producer, "Uses-lite", 2);
            Set<String> rest = poll(again, 1);
            that(rest.equals(Collections.singleton("Uses-lite-0")), "after the commit came %s", rest);
            again.shutdown();
        });

        check("lite-assign-seek", () -> {
            List<SendResult> sent = send(producer, "Uses-seek", 32);
            DefaultLitePullConsumer consumer = lite("Uses-seek-group");
            consumer.start();
            Collection<MessageQueue> queues = consumer.fetchMessageQueues("Uses-seek");
            that(queues.size() == 4, "%d queues", queues.size());
            consumer.assign(queues);
            for (MessageQueue queue : queues) consumer.seekToBegin(queue);
            Set<String> all = poll(consumer, 32);
            that(all.size() == 32, "got %d of 32", all.size());
            SendResult one = sent.get(17);
            consumer.assign(Collections.singletonList(one.getMessageQueue()));
            consumer.seek(one.getMessageQueue(), one.getQueueOffset());
            List<MessageExt> next = new ArrayList<>();
            long end = System.currentTimeMillis() + 20000;
            while (next.isEmpty() && System.currentTimeMillis() < end) next = consumer.poll(500);
            that(!next.isEmpty() && next.get(0).getKeys().equals("Uses-seek-17"), "after the seek came %s", next.isEmpty() ? "nothing" : next.get(0).getKeys());
            Long at = consumer.offsetForTimestamp(one.getMessageQueue(), next.get(0).getStoreTimestamp());
            that(at != null && at <= one.getQueueOffset(), "offset by time %s", at);
            consumer.seekToEnd(one.getMessageQueue());
            that(consumer.poll(300).isEmpty(), "something after the end");
            consumer.shutdown();
        });

        check("pull-consumer", () -> {
            List<SendResult> sent = send(producer, "Uses-pull", 20);
            DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("Uses-pull-group");
            consumer.setNamesrvAddr(ns);
            consumer.start();
            Set<String> got = new TreeSet<>();
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues("Uses-pull")) {
                long min = consumer.minOffset(queue), max = consumer.maxOffset(queue);
                for (long at = min; at < max; ) {
                    PullResult result = consumer.pullBlockIfNotFound(queue, "*", at, 8);
                    that(result.getPullStatus() == PullStatus.FOUND, "%s", result.getPullStatus());
                    for (MessageExt m : result.getMsgFoundList()) got.add(m.getKeys());
                    at = result.getNextBeginOffset();
                }
                consumer.updateConsumeOffset(queue, max);
                that(consumer.fetchConsumeOffset(queue, false) == max, "progress");
                that(consumer.earliestMsgStoreTime(queue) > 0, "earliest time");
                PullResult none = consumer.pull(queue, "*", max + 1000, 8);
                that(none.getPullStatus() == PullStatus.OFFSET_ILLEGAL, "beyond the end: %s", none.getPullStatus());
            }
            that(got.size() == 20, "got %d of 20", got.size());
            MessageExt byId = consumer.viewMessage("Uses-pull", sent.get(3).getOffsetMsgId());
            that(byId.getKeys().equals("Uses-pull-3"), "by offset id %s", byId.getKeys());
            MessageExt byUnique = consumer.viewMessage("Uses-pull", sent.get(4).getMsgId());
            that(byUnique != null && byUnique.getKeys().equals("Uses-pull-4"), "by unique id %s", byUnique);
            QueryResult byKey = consumer.queryMessage("Uses-pull", "Uses-pull-5", 10, System.currentTimeMillis() - 600000, System.currentTimeMillis() + 600000);
            that(byKey.getMessageList().size() == 1, "by key %d", byKey.getMessageList().size());
            consumer.shutdown();
        });

        check("held-pull", () -> {
            send(producer, "Uses-hold", 4);
            DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("Uses-hold-group");
            consumer.setNamesrvAddr(ns);
            consumer.start();
            MessageQueue queue = consumer.fetchSubscribeMessageQueues("Uses-hold").iterator().next();
            CompletableFuture<PullResult> held = heldPull(consumer, queue, consumer.maxOffset(queue));
            producer.send(new Message("Uses-hold", "TagY", "other", new byte[] {1}), queue);
            producer.send(new Message("Uses-hold", "TagX", "wanted", new byte[] {1}), queue);
            PullResult result = held.get(30, TimeUnit.SECONDS);
            // One that came between the two was told to ask again behind the first.
            if (result.getPullStatus() == PullStatus.NO_MATCHED_MSG) result = heldPull(consumer, queue, result.getNextBeginOffset()).get(30, TimeUnit.SECONDS);
            that(result.getPullStatus() == PullStatus.FOUND && result.getMsgFoundList().get(0).getKeys().equals("wanted"), "%s", result);
            consumer.shutdown();
        });

        check("trace", () -> {
            DefaultMQProducer traced = new DefaultMQProducer("Uses-traced", null, true, null);
            traced.setNamesrvAddr(ns);
            traced.setInstanceName("traced");
            traced.start();
            send(traced, "Uses-trace", 5);
            // Before the other traced client: when the first routes of both are asked at once, a client may take that of TBW102
            // for the trace topic's, and sends to queues that are not there.
            traced.shutdown();
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("Uses-trace-group", null, new AllocateMessageQueueAveragely(), true, null);
            consumer.setNamesrvAddr(ns);
            consumer.setInstanceName("trace-consumer");
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.subscribe("Uses-trace", "*");
            CountDownLatch taken = new CountDownLatch(5);
            consumer.registerMessageListener((MessageListenerConcurrently) (ms, c) -> {
                ms.forEach(m -> taken.countDown());
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            that(taken.await(40, TimeUnit.SECONDS), "%d not consumed", taken.getCount());
            consumer.shutdown();
            DefaultLitePullConsumer traces = lite("Uses-traces");
            traces.subscribe("RMQ_SYS_TRACE_TOPIC", "*");
            traces.start();
            StringBuilder text = new StringBuilder();
            long end = System.currentTimeMillis() + 30000;
            while (System.currentTimeMillis() < end && !(text.toString().contains("Pub") && text.toString().contains("SubAfter")))
                for (MessageExt m : traces.poll(500)) text.append(new String(m.getBody(), StandardCharsets.UTF_8));
            that(text.toString().contains("Pub") && text.toString().contains("SubAfter"), "traces: %s", text.length());
            traces.shutdown();
        });

        check("from-timestamp", () -> {
            send(producer, "Uses-time", 8);
            // The client tells the time in whole seconds.
            long between = System.currentTimeMillis() + 1500;
            while (System.currentTimeMillis() < between + 500) Thread.sleep(50);
            for (int i = 100; i < 108; i++) producer.send(new Message("Uses-time", "", "later-" + i, new byte[] {1}));
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("Uses-time-group");
            consumer.setNamesrvAddr(ns);
            consumer.setInstanceName("time");
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);
            consumer.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(between));
            consumer.subscribe("Uses-time", "*");
            Set<String> got = ConcurrentHashMap.newKeySet();
            consumer.registerMessageListener((MessageListenerConcurrently) (ms, c) -> {
                ms.forEach(m -> got.add(m.getKeys()));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            // A broker lets a new group begin at 0 while the queue is young, so older ones may come too.
            long end = System.currentTimeMillis() + 40000;
            while (got.stream().filter(k -> k.startsWith("later")).count() < 8 && System.currentTimeMillis() < end) Thread.sleep(50);
            that(got.stream().filter(k -> k.startsWith("later")).count() == 8, "got %s", got);
            consumer.shutdown();
        });

        check("orderly-suspend", () -> {
            for (int i = 0; i < 20; i++) {
                int number = i;
                producer.send(new Message("Uses-orderly", "", "o-" + i, new byte[] {1}), (queues, m, arg) -> queues.get(number % 2), null);
            }
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("Uses-orderly-group");
            consumer.setNamesrvAddr(ns);
            consumer.setInstanceName("orderly");
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setSuspendCurrentQueueTimeMillis(100);
            consumer.subscribe("Uses-orderly", "*");
            Map<Integer, List<String>> taken = new ConcurrentHashMap<>();
            Set<String> failedOnce = ConcurrentHashMap.newKeySet();
            AtomicInteger count = new AtomicInteger();
            consumer.registerMessageListener((MessageListenerOrderly) (ms, c) -> {
                for (MessageExt m : ms) {
                    if (failedOnce.add(m.getKeys())) return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    taken.computeIfAbsent(m.getQueueId(), q -> Collections.synchronizedList(new ArrayList<>())).add(m.getKeys());
                    count.incrementAndGet();
                }
                return ConsumeOrderlyStatus.SUCCESS;
            });
            consumer.start();
            long end = System.currentTimeMillis() + 60000;
            while (count.get() < 20 && System.currentTimeMillis() < end) Thread.sleep(50);
            that(count.get() == 20, "%d of 20", count.get());
            taken.forEach((q, keys) -> {
                List<Integer> numbers = new ArrayList<>();
                for (String key : keys) numbers.add(Integer.parseInt(key.substring(2)));
                List<Integer> sorted = new ArrayList<>(numbers);
                Collections.sort(sorted);
                that(numbers.equals(sorted), "queue %d: %s", q, numbers);
            });
            consumer.shutdown();
        });

        check("async-large-compressed", () -> {
            byte[] zeros = new byte[3 << 20];
            byte[] noise = new byte[(4 << 20) - 4096];
            new Random(1).nextBytes(noise);
            CountDownLatch done = new CountDownLatch(2);
            List<String> bad = Collections.synchronizedList(new ArrayList<>());
            int number = 0;
            for (byte[] body : Arrays.asList(zeros, noise)) {
                producer.send(new Message("Uses-large", "", "large-" + number++, body), new SendCallback() {
                    public void onSuccess(SendResult r) { if (r.getSendStatus() != SendStatus.SEND_OK) bad.add(r.toString()); done.countDown(); }
                    public void onException(Throwable e) { bad.add(e.toString()); done.countDown(); }
                }, 20000);
            }
            that(done.await(40, TimeUnit.SECONDS) && bad.isEmpty(), "%s", bad);
            DefaultLitePullConsumer consumer = lite("Uses-large-group");
            consumer.subscribe("Uses-large", "*");
            consumer.start();
            Map<String, byte[]> got = new TreeMap<>();
            long end = System.currentTimeMillis() + 40000;
            while (got.size() < 2 && System.currentTimeMillis() < end) for (MessageExt m : consumer.poll(500)) got.put(m.getKeys(), m.getBody());
            that(got.size() == 2 && Arrays.equals(got.get("large-0"), zeros) && Arrays.equals(got.get("large-1"), noise), "%s", got.keySet());
            consumer.shutdown();
            try {
                producer.setMaxMessageSize(64 << 20);
                byte[] huge = new byte[5 << 20];
                new Random(2).nextBytes(huge);
                producer.send(new Message("Uses-large", huge), 20000);
                that(false, "5 MiB were taken");
            } catch (org.apache.rocketmq.client.exception.MQBrokerException e) {
                that(e.getResponseCode() == 13, "code %d: %s", e.getResponseCode(), e.getErrorMessage());
            } finally {
                producer.setMaxMessageSize(4 << 20);
            }
        });

        check("unicode-and-properties", () -> {
            Message message = new Message("Uses-text", "Täg", "ключ", "日本 \u0000 \"quoted\" \\ €".getBytes(StandardCharsets.UTF_8));
            message.putUserProperty("größe", "€ \"x\" \\ /");
            SendResult sent = producer.send(message);
            DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("Uses-text-group");
            consumer.setNamesrvAddr(ns);
            consumer.start();
            PullResult result = consumer.pull(sent.getMessageQueue(), "Täg", sent.getQueueOffset(), 1);
            MessageExt m = result.getMsgFoundList().get(0);
            that("Täg".equals(m.getTags()) && "€ \"x\" \\ /".equals(m.getUserProperty("größe")) && Arrays.equals(m.getBody(), message.getBody()), "%s", m);
            consumer.shutdown();
        });

        check("two-consumers-share-and-take-over", () -> {
            send(producer, "Uses-share", 40);
            Map<String, Set<Integer>> owned = new ConcurrentHashMap<>();
            Set<String> got = ConcurrentHashMap.newKeySet();
            List<DefaultMQPushConsumer> both = new ArrayList<>();
            for (String name : Arrays.asList("one", "two")) {
                DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("Uses-share-group", null, new AllocateMessageQueueAveragely());
                consumer.setNamesrvAddr(ns);
                consumer.setInstanceName("share-" + name);
                consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
                consumer.subscribe("Uses-share", "*");
                consumer.registerMessageListener((MessageListenerConcurrently) (ms, c) -> {
                    for (MessageExt m : ms) {
                        owned.computeIfAbsent(name, n -> ConcurrentHashMap.newKeySet()).add(m.getQueueId());
                        got.add(m.getMsgId());
                    }
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                });
                consumer.start();
                both.add(consumer);
            }
            long end = System.currentTimeMillis() + 40000;
            while (got.size() < 40 && System.currentTimeMillis() < end) Thread.sleep(50);
            that(got.size() == 40, "%d of 40", got.size());
            owned.clear();
            end = System.currentTimeMillis() + 60000;
            while (!(owned.getOrDefault("one", Set.of()).size() == 2 && owned.getOrDefault("two", Set.of()).size() == 2) && System.currentTimeMillis() < end) {
                owned.clear();
                send(producer, "Uses-share", 8);
                Thread.sleep(500);
            }
            that(owned.size() == 2, "shares %s", owned);
            both.get(0).shutdown();
            owned.clear();
            end = System.currentTimeMillis() + 60000;
            while (owned.getOrDefault("two", Set.of()).size() < 4 && System.currentTimeMillis() < end) {
                send(producer, "Uses-share", 8);
                Thread.sleep(300);
            }
            that(owned.getOrDefault("two", Set.of()).size() == 4, "taken over %s", owned);
            both.get(1).shutdown();
        });

        producer.shutdown();
        out.close();
        System.exit(failed ? 1 : 0);
    }
}
