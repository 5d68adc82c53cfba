package pipeline

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measures what passes through the handlers of a [Pipeline], a message at a
// time: a message is a batch, so nothing here is paid per record. What the stages
// count themselves is in their Stats.
type Metrics struct {
	duration *prometheus.HistogramVec
	records  *prometheus.HistogramVec
	age      *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(to prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sortition_batch_duration_seconds", Help: "Time a batch spent in its handler, pauses between tries included, by verdict: ack or nack.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"handler", "verdict"}),
		records: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sortition_batch_records", Help: "Records in an acked batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}, []string{"handler"}),
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sortition_record_age_seconds", Help: "Age of the oldest record of a batch, by its own time, when everything made of it was stored.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 20),
		}, []string{"handler"}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.records, m.age} {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		// Before the handler: a batch belongs to the transport again afterwards.
		batch, _ := BatchOf(msg)
		var oldest time.Time
		if len(batch.Records) > 0 {
			oldest = batch.Records[0].Time
		}
		n := len(batch.Records)
		handler := message.HandlerNameFromCtx(msg.Context())
		start := time.Now()
		out, err := next(msg)
		verdict := "ack"
		if err != nil {
			verdict = "nack"
		}
		m.duration.WithLabelValues(handler, verdict).Observe(time.Since(start).Seconds())
		if err == nil {
			m.records.WithLabelValues(handler).Observe(float64(n))
			if !oldest.IsZero() {
				m.age.WithLabelValues(handler).Observe(max(0, time.Since(oldest).Seconds()))
			}
		}
		return out, err
	}
}
