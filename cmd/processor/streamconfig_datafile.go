package main

import (
	"errors"
	"time"

	"sortition/decision/datafile"
	"sortition/pipeline"
)

type datafileConfig struct {
	Path            string         `yaml:"path"`
	SDKKey          secret         `yaml:"sdk_key"`
	SDKKeyFile      string         `yaml:"sdk_key_file"`
	AccessToken     secret         `yaml:"access_token"`
	AccessTokenFile string         `yaml:"access_token_file"`
	URL             string         `yaml:"url"`
	URLTemplate     string         `yaml:"url_template"`
	PollInterval    duration       `yaml:"poll_interval"`
	Timeout         duration       `yaml:"timeout"`
	CacheFile       string         `yaml:"cache_file"`
	Archive         string         `yaml:"archive"`
	Webhook         *webhookConfig `yaml:"webhook"`
	SkipValidation  bool           `yaml:"skip_validation"`
}

type webhookConfig struct {
	ProjectID  string `yaml:"project_id"`
	Secret     secret `yaml:"secret"`
	SecretFile string `yaml:"secret_file"`
}

// isSet tells whether the configuration says where a datafile comes from.
func (d *datafileConfig) isSet() bool {
	return d.Path != "" || d.SDKKey != "" || d.SDKKeyFile != "" || d.URL != ""
}

// needsDatafile tells whether one of the handlers can't work without a datafile.
func (c *streamConfig) needsDatafile() bool {
	return c.runs(pipeline.AssignActivities) || c.runs(pipeline.DeliverODP) && !c.Deliver.ODP.isAddressed()
}

func (c *streamConfig) datafileParts(parts *streamParts) error {
	var f faults
	d := &c.Datafile
	if !d.isSet() {
		f.when(c.needsDatafile(), "datafile.path, datafile.sdk_key or datafile.url is required")
		f.when(d.Webhook != nil, "datafile.webhook needs datafile.sdk_key or datafile.url")
		return errors.Join(f...)
	}
	f.within("datafile.poll_interval", d.PollInterval, time.Second, 24*time.Hour)
	f.within("datafile.timeout", d.Timeout, 100*time.Millisecond, 5*time.Minute)
	sdkKey, err := readSecret("datafile.sdk_key", d.SDKKey, c.path(d.SDKKeyFile))
	f.add(err)
	token, err := readSecret("datafile.access_token", d.AccessToken, c.path(d.AccessTokenFile))
	f.add(err)
	isPolled := sdkKey != "" || d.URL != ""
	f.when(token != "" && !isPolled, "datafile.access_token needs datafile.sdk_key or datafile.url")
	f.when(d.CacheFile != "" && !isPolled, "datafile.cache_file keeps what is polled: it needs datafile.sdk_key or datafile.url")
	parts.archive = c.path(d.Archive)
	parts.datafile = &datafile.Config{
		Path: c.path(d.Path),
		Poll: datafile.PollConfig{
			SDKKey: sdkKey, AccessToken: datafile.Secret(token), URL: d.URL, URLTemplate: d.URLTemplate,
			Interval: time.Duration(d.PollInterval), Timeout: time.Duration(d.Timeout), CachePath: c.path(d.CacheFile),
			Options: datafile.Options{SkipSchemaValidation: d.SkipValidation},
		},
	}
	if w := d.Webhook; w != nil {
		secret, err := readSecret("datafile.webhook.secret", w.Secret, c.path(w.SecretFile))
		f.add(err)
		f.when(err == nil && secret == "", "datafile.webhook.secret or datafile.webhook.secret_file is required: it signs the messages")
		f.when(w.ProjectID == "", "datafile.webhook.project_id is required")
		f.when(sdkKey == "", "datafile.webhook needs datafile.sdk_key")
		f.when(c.HTTP.Listen == "", "datafile.webhook needs http.listen: messages come in there")
		parts.webhook = &datafile.WebhookProject{ID: w.ProjectID, SDKKeys: []string{sdkKey}, Secret: datafile.Secret(secret)}
	}
	return errors.Join(f...)
}
