package main

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sortition/pipeline"
)

// streamMetrics is what a stream shows at /metrics. Labels are names of handlers,
// topics, reasons and classes: never a user, never a value.
type streamMetrics struct {
	registry *prometheus.Registry
	pipeline *pipeline.Metrics
	started  atomic.Bool // the stream has what it waits for, and joins
}

func newStreamMetrics() *streamMetrics {
	m := &streamMetrics{registry: prometheus.NewRegistry()}
	var err error
	if m.pipeline, err = pipeline.NewMetrics(m.registry); err != nil {
		panic("BUG: " + err.Error())
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch makes the counters of a stream's parts metrics: they are read when somebody
// asks, and cost nothing until then.
func (m *streamMetrics) watch(s *stream) { m.registry.MustRegister(streamCollector{s}) }

// streamCollector reads the counters of a stream's parts. What it collects depends on
// the parts, so it describes nothing beforehand.
type streamCollector struct{ *stream }

// Describe implements prometheus.Collector.
func (streamCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c streamCollector) Collect(out chan<- prometheus.Metric) {
	g := gatherer{out}
	g.gauge("build_info", "The version that runs.", 1, "version", version)
	c.collectAssign(g)
	for _, d := range []struct {
		stage  *pipeline.Deliver
		target string
	}{{c.deliverEvents, pipeline.DeliverEvents}, {c.deliverODP, pipeline.DeliverODP}} {
		if d.stage != nil {
			collectDelivery(g, d.target, d.stage.Stats())
		}
	}
	c.collectKafka(g)
	c.collectServices(g)
	c.collectDatafile(g)
}

func (c streamCollector) collectAssign(g gatherer) {
	if c.assign == nil {
		return
	}
	s := c.assign.Stats()
	g.count("activities_total", "Activities read whose outputs are stored, dead letters among them.", s.Read)
	g.count("activities_decided_total", "Activities decided.", s.Decided)
	g.count("decisions_total", "Decisions made for flags.", s.Flags)
	g.count("decision_records_total", "Decision records stored.", s.Records)
	g.count("events_total", "Impressions and conversions stored.", s.Visitors)
	g.count("event_batches_total", "Event batches stored.", s.EventBodies)
	g.count("events_unknown_total", "Conversions of events that the datafile doesn't know.", s.UnknownEvents)
	g.count("fields_unknown_total", "Fields of activities that nobody asked for.", s.UnknownFields)
	g.count("events_suppressed_total", "Impressions left out because they were stored shortly before.", s.Suppressed)
	g.count("odp_events_total", "ODP events stored.", s.ODPEvents)
	g.count("odp_batches_total", "Batches of ODP events stored.", s.ODPBodies)
	g.count("odp_events_left_out_total", "ODP events of activities, if there is no topic for them.", s.ODPLeftOut)
	g.count("segments_total", "Activities whose segments were asked for.", s.SegmentsKnown, "outcome", "known")
	g.count("segments_total", "Activities whose segments were asked for.", s.SegmentsUnknown, "outcome", "unknown")
	for _, reason := range pipeline.Reasons() {
		if reason != pipeline.ReasonEndpointRefused {
			g.count("dead_letters_total", "Dead letters stored.", s.DeadLetters[reason], "handler", pipeline.AssignActivities, "reason", string(reason))
		}
	}
	g.count("batches_total", "Micro-batches acked.", s.Batches, "handler", pipeline.AssignActivities)
	g.count("batch_failures_total", "Tries of micro-batches that failed; each is made again.", s.Repeats, "handler", pipeline.AssignActivities)
}

func collectDelivery(g gatherer, handler string, s pipeline.DeliverStats) {
	g.count("delivered_events_total", "Events that their endpoint accepted.", s.Delivered, "handler", handler)
	g.count("refused_events_total", "Events that their endpoint refused for good.", s.Refused, "handler", handler)
	g.count("delivered_bodies_total", "Bodies worked through.", s.Bodies, "handler", handler)
	g.count("dead_letters_total", "Dead letters stored.", s.DeadLetters, "handler", handler, "reason", string(pipeline.ReasonEndpointRefused))
	g.count("dead_letters_total", "Dead letters stored.", s.Panics, "handler", handler, "reason", string(pipeline.ReasonPanic))
	g.count("batches_total", "Micro-batches acked.", s.Batches, "handler", handler)
	g.count("batch_failures_total", "Tries of micro-batches that failed; each is made again.", s.Repeats, "handler", handler)
}

func (c streamCollector) collectKafka(g gatherer) {
	for _, l := range c.legs {
		s, h := l.subscriber.Stats(), l.stage.Name()
		g.count("consumer_generations_total", "Times the consumer group was joined.", s.Generations, "handler", h)
		g.count("consumer_records_total", "Records in acked batches.", s.Records, "handler", h)
		g.count("consumer_nacks_total", "Batches nacked.", s.Nacks, "handler", h)
		g.count("consumer_abandoned_total", "Batches given up unfinished; whoever is next repeats them.", s.Abandoned, "handler", h)
		g.count("consumer_stalled_total", "Times a batch was found stuck.", s.Stalled, "handler", h)
		g.count("consumer_commits_total", "Commits that succeeded.", s.Commits, "handler", h)
		g.count("consumer_commit_errors_total", "Commits that failed or were refused.", s.CommitErrors, "handler", h)
		g.count("consumer_fetch_errors_total", "Fetches that failed.", s.FetchErrors, "handler", h)
		g.count("consumer_aborted_total", "Records left out because their transaction was aborted.", s.Aborted, "handler", h)
		g.count("consumer_out_of_range_total", "Times an offset was moved by policy.", s.OutOfRange, "handler", h)
		g.count("consumer_skipped_total", "Offsets jumped over by such moves: work lost to retention.", s.Skipped, "handler", h)
	}
	for _, l := range c.legs {
		h, state := l.stage.Name(), l.subscriber.State()
		for _, lag := range l.subscriber.Lags() {
			g.gauge("consumer_lag", "Records of a partition of ours that are not committed.", float64(lag.Lag()), "handler", h, "topic", lag.Topic, "partition", strconv.Itoa(int(lag.Partition)))
		}
		g.gauge("consumer_partitions", "Partitions that are ours; none for long means that this process does nothing.", float64(state.Assigned), "handler", h)
		g.gauge("consumer_buffered_bytes", "Memory of records that wait or are worked on.", float64(state.Buffered), "handler", h)
		g.gauge("consumer_in_flight", "Batches being worked on.", float64(state.InFlight), "handler", h)
	}
	p := c.producer.Stats()
	g.count("producer_requests_total", "Produce requests answered with success.", p.Requests)
	g.count("producer_records_total", "Records stored.", p.Records)
	g.count("producer_retries_total", "Produce requests repeated after a transient failure.", p.Retries)
	g.count("producer_refused_total", "Records no broker will take.", p.Refused)
	g.count("producer_abandoned_total", "Records given up for now; their batches are made again.", p.Abandoned)
}

func (c streamCollector) collectServices(g gatherer) {
	if c.segmenter != nil {
		s := c.segmenter.segments.Stats()
		g.count("segment_lookups_total", "Users looked up, by where the answer came from.", s.Hits, "from", "cache")
		g.count("segment_lookups_total", "Users looked up, by where the answer came from.", s.Stale, "from", "stale")
		g.count("segment_lookups_total", "Users looked up, by where the answer came from.", s.Joined, "from", "joined")
		g.count("segment_requests_total", "Requests made to ODP for segments.", s.Requests)
		for class, n := range s.Failures {
			g.count("segment_failures_total", "Users whose segments couldn't be had.", n, "class", class.String())
		}
		g.gauge("breaker_open", "Whether a service counts as down.", asNumber(s.IsOpen), "target", "odp-segments")
	}
	if c.profiles != nil {
		s := c.profiles.Stats()
		g.count("profile_lookups_total", "Users whose profile was asked for, once a batch.", s.Asked)
		g.count("profile_hits_total", "Of those, with a profile.", s.Found)
		g.count("profile_saves_total", "Profiles kept.", s.Saved)
		g.count("profile_failures_total", "Profiles that could not be looked up or kept.", s.LookupFailures, "call", "lookup")
		g.count("profile_failures_total", "Profiles that could not be looked up or kept.", s.SaveFailures, "call", "save")
	}
	if c.redisProfiles != nil {
		g.count("profile_unreadable_total", "Texts in the store that are no profile.", c.redisProfiles.Unreadable())
	}
	if c.predictor != nil {
		s := c.predictor.Stats()
		g.count("prediction_calls_total", "Predictions asked for.", s.Calls)
		g.count("prediction_hits_total", "Predictions answered by the cache.", s.Hits)
		g.count("prediction_shared_total", "Predictions answered by another partition's request for the same.", s.Shared)
		g.count("prediction_requests_total", "Requests made for predictions.", s.Requests)
		g.count("prediction_retries_total", "Of those, repetitions.", s.Retries)
		for _, f := range []struct {
			class string
			n     uint64
		}{{"budget", s.Budget}, {"status", s.BadStatus}, {"reply", s.BadReply}, {"network", s.Network}, {"given_up", s.Ended}} {
			g.count("prediction_failures_total", "Predictions that couldn't be had; given_up: not asked for any more, because others of their batch had failed.", f.n, "class", f.class)
		}
		g.count("prediction_unknown_total", "Predictions of a variation that the rule doesn't have.", s.Unknown)
	}
	if c.eventEndpoint != nil {
		s := c.eventEndpoint.poster.Stats()
		g.count("delivery_attempts_total", "Requests made to event endpoints.", s.Attempts)
		g.count("delivery_retries_total", "Of those, repetitions.", s.Retries)
		g.count("delivery_splits_total", "Bodies halved because they were too large for the endpoint.", s.Splits)
		g.gauge("breaker_open", "Whether a service counts as down.", float64(s.BreakersOpen), "target", pipeline.DeliverEvents)
	}
	if c.odpEndpoint != nil {
		g.gauge("breaker_open", "Whether a service counts as down.", asNumber(c.odpEndpoint.isDown.Load()), "target", pipeline.DeliverODP)
	}
}

func (c streamCollector) collectDatafile(g gatherer) {
	if c.source == nil {
		return
	}
	s := c.source.Status()
	g.gauge("datafile_info", "The datafile in force.", asNumber(s.Revision != ""), "revision", s.Revision, "origin", string(s.Origin))
	g.gauge("datafile_age_seconds", "How long ago the datafile in force was got from its origin.", s.Age(time.Now()).Seconds())
	g.gauge("datafile_failures", "Attempts to get a datafile that failed since the last success.", float64(s.Failures))
}

func asNumber(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// gatherer hands out metrics with the project's prefix. labels are names and values
// by turns.
type gatherer struct{ out chan<- prometheus.Metric }

func (g gatherer) count(name, help string, value uint64, labels ...string) {
	g.metric(prometheus.CounterValue, name, help, float64(value), labels)
}

func (g gatherer) gauge(name, help string, value float64, labels ...string) {
	g.metric(prometheus.GaugeValue, name, help, value, labels)
}

func (g gatherer) metric(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	g.out <- prometheus.MustNewConstMetric(prometheus.NewDesc("sortition_"+name, help, names, nil), kind, value, values...)
}
