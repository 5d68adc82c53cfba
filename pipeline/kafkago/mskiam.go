package kafkago

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/aws_msk_iam_v2"
)

// mskIAM is the mechanism of Amazon's managed Kafka: every connection sends a
// request signed with the credentials that are valid at that moment. It looks into
// the environment and AWS's files, and asks nobody before a connection is opened.
func (s *SASL) mskIAM() (sasl.Mechanism, error) {
	var options []func(*config.LoadOptions) error
	if s.Region != "" {
		options = append(options, config.WithRegion(s.Region))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("%s: look for AWS credentials: %w", MSKIAM, err)
	}
	if found.Region == "" {
		return nil, fmt.Errorf("%s: no region given, and none in the environment", MSKIAM)
	}
	return aws_msk_iam_v2.NewMechanism(found), nil
}
