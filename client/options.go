package client

import (
	"log/slog"
	"net/http"
	"time"

	"sortition/cmab"
	"sortition/decision"
	"sortition/decision/datafile"
)

// An Option configures a [Client]. Of options given twice the later counts.
type Option func(*settings)

// settings are what the options say; immutable once New has returned.
type settings struct {
	datafile      []byte
	poll          datafile.PollConfig
	isPolled      bool
	source        ConfigSource
	readyTimeout  time.Duration
	logger        *slog.Logger
	errorHandler  func(error)
	notifications *Notifications
	profiles      decision.ProfileService
	decideOptions DecideOptions
	identity      decision.Client
	transport     http.RoundTripper
	events        eventSettings
	cmab          cmabSettings
	odp           odpSettings
}

// Version is the client_version that events carry unless [WithClientInfo] says
// otherwise.
const Version = "0.1.0"

// DefaultReadyTimeout is how long [Client.WaitReady] and [Open] wait for the first
// datafile unless told otherwise. Source: config.md CF-17.
const DefaultReadyTimeout = 10 * time.Second

func defaultSettings() settings {
	return settings{
		readyTimeout: DefaultReadyTimeout,
		identity:     decision.Client{Name: "sortition", Version: Version},
		events:       defaultEventSettings(),
		cmab:         cmabSettings{config: cmab.DefaultConfig()},
		odp:          defaultODPSettings(),
	}
}

// WithDatafile gives the datafile: the JSON text of a project. Alone, it is never
// fetched again; a newer one means a new client. The bytes are copied.
// Source: pages.md I-1, I-3.
func WithDatafile(text []byte) Option { return func(s *settings) { s.datafile = text } }

// WithSDKKey names the datafile to download and poll for. Beside [WithDatafile], the
// given one is used until the first fetch brings another revision.
// Source: pages.md I-1, I-2, I-4.
func WithSDKKey(key string) Option {
	return func(s *settings) { s.poll.SDKKey, s.isPolled = key, true }
}

// WithAccessToken asks for the datafile of a secure environment: at the
// authenticated address, with this token. It needs an SDK key and must not be
// empty. Source: pages.md I-10, config.md CF-5.
func WithAccessToken(token string) Option {
	return func(s *settings) { s.poll.AccessToken, s.poll.Authenticated = datafile.Secret(token), true }
}

// WithSource gives a datafile source of one's own, or one of package datafile,
// in place of a datafile, an SDK key and a token. [Client.Start] runs it, unless
// it is running already. Source: pages.md I-9, config.md section 1.
func WithSource(source ConfigSource) Option { return func(s *settings) { s.source = source } }

// WithoutSchemaValidation takes datafiles that break the schema where nothing depends on
// it: the SDKs' skip_json_validation. What a decision needs is checked all the same. It is
// no way to speed: the check is less than a tenth of what making a client costs.
// Source: pages.md I-8.
func WithoutSchemaValidation() Option {
	return func(s *settings) { s.poll.SkipSchemaValidation = true }
}

// WithPollingInterval sets the time from the end of one fetch to the next. Default
// 5 minutes, also for 0 and less; under 30 seconds is accepted with a warning.
// Source: config.md CF-7.
func WithPollingInterval(interval time.Duration) Option {
	return func(s *settings) { s.poll.Interval = interval }
}

// WithDatafileURL sets the complete address of the datafile. It wins over the SDK
// key's. Source: config.md CF-3.
func WithDatafileURL(url string) Option {
	return func(s *settings) { s.poll.URL, s.isPolled = url, true }
}

// WithDatafileURLTemplate sets the address of datafiles, with {sdk_key} or %s in
// it. Source: config.md CF-3.
func WithDatafileURLTemplate(template string) Option {
	return func(s *settings) { s.poll.URLTemplate = template }
}

// WithDatafileTimeout bounds one request for the datafile. Default 10 s.
func WithDatafileTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.poll.Timeout = timeout }
}

// WithDatafileCache names a file that keeps the last good datafile for a start
// while the CDN is away. Its folder must exist.
func WithDatafileCache(path string) Option { return func(s *settings) { s.poll.CachePath = path } }

// WithDatafileLimit sets the largest datafile accepted, in bytes. Default 64 MiB.
// Source: config.md CF-P3.
func WithDatafileLimit(bytes int64) Option { return func(s *settings) { s.poll.MaxSize = bytes } }

// WithArchive keeps every datafile that comes into force. The archive is the
// caller's to close, after the client.
func WithArchive(archive *datafile.Archive) Option {
	return func(s *settings) { s.poll.Archive = archive }
}

// WithReadyTimeout sets how long [Client.WaitReady] and [Open] wait for the first
// datafile: the SDKs' blocking timeout. 0 doesn't wait; less stands for the default,
// 10 s. Nothing else ever waits for a datafile. Source: config.md CF-17, CF-P4.
func WithReadyTimeout(timeout time.Duration) Option {
	return func(s *settings) {
		if timeout < 0 {
			timeout = DefaultReadyTimeout
		}
		s.readyTimeout = timeout
	}
}

// WithLogger sets where the client logs. Default: nowhere. User ids and attribute
// values are never logged. Source: pages.md I-6.
func WithLogger(logger *slog.Logger) Option { return func(s *settings) { s.logger = logger } }

// WithErrorHandler sets who hears of errors that no caller gets: datafiles that
// can't be fetched or used, user profiles that can't be had, events that were not
// delivered ([EventError]), panics of listeners ([PanicError]). It is called on the
// goroutine where they happen, also concurrently, and should return soon.
// Source: pages.md I-6.
func WithErrorHandler(handle func(error)) Option {
	return func(s *settings) { s.errorHandler = handle }
}

// WithNotifications sets the notification centre. Listeners added to it before New
// also hear of the first datafile. Several clients may share one.
// Source: pages.md I-9.
func WithNotifications(n *Notifications) Option { return func(s *settings) { s.notifications = n } }

// WithUserProfileService makes bucketing sticky; package profiles has services.
// Default: none. Source: pages.md I-7, decide.md section 7.
func WithUserProfileService(service decision.ProfileService) Option {
	return func(s *settings) { s.profiles = service }
}

// WithDefaultDecideOptions sets options of every decide call; a call adds to them
// and can't switch one off. Source: pages.md I-11, decide.md DC-9.
func WithDefaultDecideOptions(options ...DecideOptions) Option {
	return func(s *settings) {
		s.decideOptions = 0
		for _, o := range options {
			s.decideOptions |= o
		}
	}
}

// WithClientInfo sets the client_name and client_version that events carry. Default
// "sortition" and [Version]. Source: events.md EV-P8.
func WithClientInfo(name, version string) Option {
	return func(s *settings) { s.identity = decision.Client{Name: name, Version: version} }
}

// WithTransport sets what all HTTP requests go through: datafiles, events,
// predictions, segments and ODP events. Default: pools of kept-alive connections of the
// client's own. Its idle connections are the caller's to close.
func WithTransport(transport http.RoundTripper) Option {
	return func(s *settings) { s.transport = transport }
}
