import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Requests and replies: consumers that leave the sharing of queues to the broker answer what a producer asks.
 *
 *   Ask --ns HOST:PORT --out FILE --topic TOPIC --count N
 *
 * Writes one line a request with the reply. Where the broker does not share out its queues, no consumer gets any.
 */
public final class Ask {
    public static void main(String[] args) throws Exception {
        Map<String, String> options = Common.options(args);
        String ns = options.get("ns");
        String topic = options.get("topic");
        List<DefaultMQPushConsumer> responders = new ArrayList<>();
        for (int i = 0; i < 2; i++) responders.add(responder(ns, topic, "responder-" + i));
        DefaultMQProducer asker = new DefaultMQProducer("It-askers");
        asker.setNamesrvAddr(ns);
        asker.setInstanceName("asker");
        asker.start();
        try (Common.Lines out = new Common.Lines(options.get("out"))) {
            for (int i = 0; i < Integer.parseInt(options.get("count")); i++) {
                String text = "question " + i + (i % 3 == 0 ? "!".repeat(5000) : "");
                Message reply = asker.request(new Message(topic, text.getBytes(StandardCharsets.UTF_8)), 30_000);
                out.write("asked", text, "got", new String(reply.getBody(), StandardCharsets.UTF_8));
            }
        }
        asker.shutdown();
        responders.forEach(DefaultMQPushConsumer::shutdown);
        System.exit(0);
    }

    private static DefaultMQPushConsumer responder(String ns, String topic, String instance) throws Exception {
        DefaultMQProducer replies = new DefaultMQProducer("It-" + instance);
        replies.setNamesrvAddr(ns);
        replies.setInstanceName(instance + "-replies");
        replies.start();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("It-group-" + topic.substring("It-".length()));
        consumer.setNamesrvAddr(ns);
        consumer.setInstanceName(instance);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        try {
            DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        } catch (NoSuchMethodException e) {
            // 4.9 shares queues in the client only.
        }
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            try {
                for (MessageExt message : messages) {
                    byte[] answer = ("re: " + new String(message.getBody(), StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8);
                    replies.send(MessageUtil.createReplyMessage(message, answer), 30_000);
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            } catch (Exception e) {
                Common.say("reply failed: %s", e);
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
        });
        consumer.start();
        return consumer;
    }
}
