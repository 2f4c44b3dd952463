import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;

/**
 * Sends seeded messages of several kinds at once, each kind to a topic of its own, and writes what became of each.
 *
 *   Load --ns HOST:PORT --out FILE [--seed 1] [--sizes small|mixed] [--seconds 0] [--compress true] [--retries 0] [--stop FILE] KIND=COUNT...
 *
 * Kinds: sync, async, oneway, batch, orderly, tags, delay, timer, late, broadcast, retry, inner, light; the topic of a kind is
 * "It-KIND". "inner" sends batches and single messages to a topic of batch queues, "light" to light queues as well: all to
 * %LMQ%it-all, every second one to %LMQ%it-half.
 * "KIND:SUFFIX=COUNT" sends a second lot of a kind to the same topic with keys of its own.
 * "--topic-KIND TOPIC" sends a kind elsewhere. A timer message is due at any time within --longest seconds (40).
 * --retries N lets the producer try a send again, at another broker too (0).
 * --seconds spreads every kind over at least that time. With --stop a kind goes on until FILE exists.
 * One line a message: kind, topic, key, tag, size, crc, status (SEND_OK ..., ONEWAY, or the error), and of an
 * acknowledged one msgId, offsetMsgId, queue, offset.
 */
public final class Load {
    static final int LARGEST = 1 << 20;
    static Map<String, String> options;
    static Common.Lines out;
    static DefaultMQProducer producer;
    static final AtomicLong acknowledged = new AtomicLong(), refused = new AtomicLong();

    public static void main(String[] args) throws Exception {
        options = Common.options(args);
        out = new Common.Lines(options.get("out"));
        producer = new DefaultMQProducer("It-producer");
        producer.setNamesrvAddr(options.get("ns"));
        producer.setInstanceName("load-" + System.nanoTime());
        producer.setSendMsgTimeout(Integer.parseInt(options.getOrDefault("timeout", "10000")));
        int retries = Integer.parseInt(options.getOrDefault("retries", "0"));   // a failed send stays failed: what is acknowledged is then sure
        producer.setRetryTimesWhenSendFailed(retries);
        producer.setRetryTimesWhenSendAsyncFailed(retries);
        producer.setMaxMessageSize(4 << 20);
        if (options.getOrDefault("compress", "true").equals("false")) producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.start();
        List<Thread> threads = new ArrayList<>();
        for (String arg : args) {
            if (!arg.contains("=")) continue;
            String lot = arg.substring(0, arg.indexOf('='));
            int count = Integer.parseInt(arg.substring(arg.indexOf('=') + 1));
            threads.add(new Thread(() -> new Lot(lot, count).run(), lot));
        }
        for (Thread t : threads) t.start();
        for (Thread t : threads) t.join();
        producer.shutdown();
        out.close();
        Common.say("load ends: %d acknowledged, %d not", acknowledged.get(), refused.get());
        System.exit(0);
    }

    /** All messages of one kind, sent by one thread. */
    static final class Lot {
        final String kind, name, topic;
        final int count;
        final Random random;
        final Semaphore window = new Semaphore(64);
        final long start = System.nanoTime();
        int made;

        Lot(String lot, int count) {
            this.kind = lot.split(":")[0];
            this.name = lot.replace(":", "-");
            this.topic = options.getOrDefault("topic-" + kind, "It-" + kind);
            this.count = count;
            this.random = new Random(Long.parseLong(options.getOrDefault("seed", "1")) * 1000003 + lot.hashCode());
        }

        void run() {
            try {
                while (more()) {
                    pace();
                    switch (kind) {
                        case "async": async(message()); break;
                        case "oneway": oneway(message()); break;
                        case "batch": batch(); break;
                        case "inner": if (random.nextInt(4) == 0) sync(message()); else batch(); break;
                        case "orderly": orderly(message()); break;
                        default: sync(message());
                    }
                }
                window.acquire(64);                     // every answer of an asynchronous send is in
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        boolean more() {
            if (options.containsKey("stop")) return !Files.exists(Path.of(options.get("stop")));
            return made < count;
        }

        void pace() throws InterruptedException {
            double seconds = Double.parseDouble(options.getOrDefault("seconds", "0"));
            long due = start + (long) (seconds * 1e9 * made / Math.max(count, 1));
            long wait = due - System.nanoTime();
            if (wait > 0) TimeUnit.NANOSECONDS.sleep(wait);
        }

        Message message() {
            int i = made++;
            Message m = new Message(topic, "", name + "-" + i, body(size(i)));
            m.putUserProperty("seq", Integer.toString(i));
            if (random.nextInt(4) == 0) m.putUserProperty("città", "naïve-" + random.nextInt(100));
            if (i % 3 == 0) m.putUserProperty("nul", "a\0b");          // of many, some stand at the edge of a sector
            switch (kind) {
                case "tags": m.setTags("Tag" + (char) ('A' + i % 5)); break;
                case "delay": m.setDelayTimeLevel(1 + i % 4); break;
                case "light": MessageAccessor.putProperty(m, "INNER_MULTI_DISPATCH", "%LMQ%it-all" + (i % 2 == 0 ? ",%LMQ%it-half" : "")); break;
                case "late": m.setDelayTimeLevel(14 + i % 3); break;
                case "timer":
                    long due = System.currentTimeMillis() + 1 + random.nextInt(Integer.parseInt(options.getOrDefault("longest", "40")) * 1000);
                    MessageAccessor.putProperty(m, "TIMER_DELIVER_MS", Long.toString(due));
                    break;
                case "orderly": m.putUserProperty("order", Integer.toString(random.nextInt(20))); break;
                case "retry": m.putUserProperty("fail", Integer.toString(i % 3 == 0 ? 99 : i % 3 - 1)); break;
                default:
            }
            return m;
        }

        /** The first is 1 byte and the second the largest; most are small, as in life. */
        int size(int i) {
            if (!options.getOrDefault("sizes", "small").equals("mixed")) return 1 + random.nextInt(1024);
            if (i == 0) return 1;
            if (i == 1 && !kind.equals("batch")) return LARGEST;
            int c = random.nextInt(1000);
            int most = c < 900 ? 1024 : c < 990 ? 16 << 10 : c < 999 || kind.equals("batch") ? 128 << 10 : LARGEST;
            return 1 + random.nextInt(most);
        }

        byte[] body(int size) {
            byte[] bytes = new byte[size];
            random.nextBytes(bytes);
            if (random.nextBoolean()) for (int i = 0; i < size; i++) bytes[i] = (byte) ('a' + (bytes[i] & 15));   // text that can be compressed
            return bytes;
        }

        void sync(Message m) {
            try {
                done(m, producer.send(m));
            } catch (Exception e) {
                failed(m, e);
            }
        }

        void orderly(Message m) {
            try {
                done(m, producer.send(m, (queues, x, key) -> queues.get(Integer.parseInt((String) key) % queues.size()), m.getUserProperty("order")));
            } catch (Exception e) {
                failed(m, e);
            }
        }

        void oneway(Message m) {
            try {
                producer.sendOneway(m);
                line(m, "ONEWAY", null, null, -1, -1);
            } catch (Exception e) {
                failed(m, e);
            }
        }

        void async(Message m) throws InterruptedException {
            window.acquire();
            try {
                producer.send(m, new SendCallback() {
                    @Override
                    public void onSuccess(SendResult result) {
                        done(m, result);
                        window.release();
                    }

                    @Override
                    public void onException(Throwable e) {
                        failed(m, e);
                        window.release();
                    }
                });
            } catch (Exception e) {
                failed(m, e);
                window.release();
            }
        }

        void batch() {
            List<Message> list = new ArrayList<>();
            int bytes = 0;
            for (int n = 2 + random.nextInt(30); n > 0 && bytes < 512 << 10 && (made < count || options.containsKey("stop")); n--) {
                list.add(message());
                bytes += list.get(list.size() - 1).getBody().length;
            }
            try {
                SendResult result = producer.send(list);
                String[] ids = result.getMsgId().split(","), offsetIds = result.getOffsetMsgId().split(",");
                for (int i = 0; i < list.size(); i++) {
                    int id = kind.equals("inner") ? 0 : i;      // one record, one id
                    line(list.get(i), result.getSendStatus().name(), ids[id], offsetIds[id], result.getMessageQueue().getQueueId(), result.getQueueOffset() + i);
                }
            } catch (Exception e) {
                for (Message m : list) failed(m, e);
            }
        }

        void done(Message m, SendResult r) {
            line(m, r.getSendStatus().name(), r.getMsgId(), r.getOffsetMsgId(), r.getMessageQueue().getQueueId(), r.getQueueOffset());
        }

        void failed(Message m, Throwable e) {
            line(m, e.toString(), null, null, -1, -1);
            if (options.containsKey("stop")) try {
                TimeUnit.MILLISECONDS.sleep(20);        // the broker is gone: no spinning until --stop says so
            } catch (InterruptedException x) {
                Thread.currentThread().interrupt();
            }
        }

        void line(Message m, String status, String msgId, String offsetMsgId, int queue, long offset) {
            (status.equals("SEND_OK") || status.equals("ONEWAY") ? acknowledged : refused).incrementAndGet();
            out.write("kind", kind, "topic", m.getTopic(), "key", m.getKeys(), "tag", m.getTags(), "order", m.getUserProperty("order"),
                "size", m.getBody().length, "crc", Common.crc(m.getBody()), "status", status,
                "msgId", msgId, "offsetMsgId", offsetMsgId, "queue", queue, "offset", offset, "due", m.getProperty("TIMER_DELIVER_MS"));
        }
    }
}
