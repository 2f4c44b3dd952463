// The Go client against a cluster, as Load and Drain of ../java do it: the same command lines, the same lines of output.
//
//	client load  --ns HOST:PORT --out FILE [--stop FILE] KIND=COUNT...
//	client drain --ns HOST:PORT --out FILE MODE/GROUP/TOPIC/TAGS/INSTANCES/QUEUES/EXPECT...
//
// Kinds: sync, tags (a fifth each of TagA to TagE), orderly (one queue for each ordering key), retry (a third fails once).
// Modes: concurrent, orderly, broadcast. With --stop it sends until that file is there, whatever COUNT says.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

type line map[string]any

var (
	out     *json.Encoder
	outLock sync.Mutex
)

func write(l line) {
	outLock.Lock()
	defer outLock.Unlock()
	must(out.Encode(l))
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// client load|drain --KEY VALUE... REST...
func main() {
	rlog.SetLogLevel("error")
	options, rest := map[string]string{}, []string{}
	for i := 2; i < len(os.Args); i++ {
		if strings.HasPrefix(os.Args[i], "--") {
			options[os.Args[i][2:]] = os.Args[i+1]
			i++
		} else {
			rest = append(rest, os.Args[i])
		}
	}
	file, err := os.Create(options["out"])
	must(err)
	out = json.NewEncoder(file)
	if os.Args[1] == "load" {
		load(options, rest)
	} else {
		drain(options, rest)
	}
}

func load(options map[string]string, kinds []string) {
	var group sync.WaitGroup
	p, err := rocketmq.NewProducer(producer.WithNameServer([]string{options["ns"]}), producer.WithGroupName("It-go-load"),
		producer.WithRetry(0), producer.WithSendMsgTimeout(3*time.Second), producer.WithQueueSelector(producer.NewHashQueueSelector()))
	must(err)
	must(p.Start())
	for _, k := range kinds {
		kind, number, _ := strings.Cut(k, "=")
		count, err := strconv.Atoi(number)
		must(err)
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; more(options, i, count); i++ {
				send(p, kind, i)
			}
		}()
	}
	group.Wait()
	must(p.Shutdown())
}

func more(options map[string]string, made, count int) bool {
	if stop := options["stop"]; stop != "" {
		_, err := os.Stat(stop)
		return err != nil
	}
	return made < count
}

func send(p rocketmq.Producer, kind string, i int) {
	body := []byte(strings.Repeat(fmt.Sprintf("%s %d ", kind, i), 1+i%90))
	m := primitive.NewMessage("It-"+kind, body)
	m.WithKeys([]string{fmt.Sprintf("%s-%d", kind, i)})
	order := strconv.Itoa(i % 7)
	switch kind {
	case "tags":
		m.WithTag("Tag" + string(rune('A'+i%5)))
	case "orderly":
		m.WithShardingKey(order)
		m.WithProperty("order", order)
	case "retry":
		m.WithProperty("fail", strconv.Itoa(i%3/2))
	}
	l := line{"kind": kind, "topic": m.Topic, "key": fmt.Sprintf("%s-%d", kind, i), "tag": m.GetTags(), "order": m.GetProperty("order"),
		"size": len(body), "crc": crc32.ChecksumIEEE(body), "status": "", "queue": -1, "offset": -1}
	sent, err := p.SendSync(context.Background(), m)
	if err != nil {
		l["status"] = err.Error()
		time.Sleep(20 * time.Millisecond)
	} else {
		names := map[primitive.SendStatus]string{primitive.SendOK: "SEND_OK", primitive.SendFlushDiskTimeout: "FLUSH_DISK_TIMEOUT",
			primitive.SendFlushSlaveTimeout: "FLUSH_SLAVE_TIMEOUT", primitive.SendSlaveNotAvailable: "SLAVE_NOT_AVAILABLE"}
		l["status"], l["queue"], l["offset"] = names[sent.Status], sent.MessageQueue.QueueId, sent.QueueOffset
		l["msgId"], l["offsetMsgId"] = sent.MsgID, sent.OffsetMsgID
	}
	write(l)
}

func drain(options map[string]string, specs []string) {
	var consumers []rocketmq.PushConsumer
	var missing, last atomic.Int64
	for _, s := range specs {
		part := strings.Split(s, "/")
		instances, err := strconv.Atoi(part[4])
		must(err)
		expect, err := strconv.Atoi(part[6])
		must(err)
		if part[0] == "broadcast" {
			expect *= instances
		}
		missing.Add(int64(expect))
		for i := 0; i < instances; i++ {
			consumers = append(consumers, subscribe(options["ns"], part, strconv.Itoa(i), &missing, &last))
		}
	}
	fmt.Println("ready")
	seconds, err := strconv.Atoi(options["seconds"])
	must(err)
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if missing.Load() <= 0 && time.Since(time.UnixMilli(last.Load())) > time.Second {
			break
		}
	}
	for _, c := range consumers {
		must(c.Shutdown())
	}
	if missing.Load() > 0 {
		os.Exit(3)
	}
}

func subscribe(ns string, part []string, instance string, missing, last *atomic.Int64) rocketmq.PushConsumer {
	mode, group, topic, tags := part[0], part[1], part[2], part[3]
	model := consumer.Clustering
	if mode == "broadcast" {
		model = consumer.BroadCasting
	}
	c, err := rocketmq.NewPushConsumer(consumer.WithNameServer([]string{ns}), consumer.WithGroupName(group), consumer.WithInstance(group+instance),
		consumer.WithConsumerModel(model), consumer.WithConsumerOrder(mode == "orderly"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	must(err)
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			fail, _ := strconv.Atoi(m.GetProperty("fail"))
			taken := int(m.ReconsumeTimes) >= fail
			write(line{"group": group, "instance": instance, "topic": topic, "key": m.GetKeys(), "tag": m.GetTags(), "order": m.GetProperty("order"),
				"size": len(m.Body), "crc": crc32.ChecksumIEEE(m.Body), "queue": m.Queue.QueueId, "offset": m.QueueOffset,
				"times": m.ReconsumeTimes, "taken": taken})
			last.Store(time.Now().UnixMilli())
			if !taken {
				return consumer.ConsumeRetryLater, nil
			}
			missing.Add(-1)
		}
		return consumer.ConsumeSuccess, nil
	}
	must(c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: tags}, take))
	must(c.Start())
	return c
}
