// Command composecheck holds docker-compose.yml against the compose specification, and
// then starts the services that are built here as plain processes: the same commands,
// with the same configuration files, against a broker that runs already. So the stack is
// known to work where no container engine is.
//
//	composecheck --root ../.. --processor ./processor --kafka 127.0.0.1:9092 [--for 60s]
//
// Without --processor it only reads the file; with --context it copies the context of the
// image's build (context.go). load.go reads and judges it, plan.go makes
// processes of services, run.go runs them and looks whether decisions and events flow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	root := flag.String("root", ".", "the folder of docker-compose.yml")
	processor := flag.String("processor", "", "the program the image is built from; without it nothing is started")
	kafka := flag.String("kafka", os.Getenv("SORTITION_KAFKA"), "a broker that stands for the service kafka, host:port")
	patience := flag.Duration("for", 90*time.Second, "how long each step may take")
	build := flag.String("context", "", "only copy what docker build would see into this new folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *build != "" {
		if err := copyContext(*root, *build); err != nil {
			fmt.Fprintln(os.Stderr, "composecheck:", err)
			stop()
			os.Exit(1)
		}
		return
	}
	if err := check(ctx, *root, *processor, *kafka, *patience); err != nil {
		fmt.Fprintln(os.Stderr, "composecheck:", err)
		stop()
		os.Exit(1)
	}
}

func check(ctx context.Context, root, processor, kafka string, patience time.Duration) error {
	project, err := load(ctx, root)
	if err != nil {
		return err
	}
	fmt.Printf("docker-compose.yml keeps to the specification: %d services\n", len(project.Services))
	if processor == "" {
		return nil
	}
	if kafka == "" {
		return errors.New("--kafka or SORTITION_KAFKA must name a broker")
	}
	processes, err := plan(project, processor, kafka)
	if err != nil {
		return err
	}
	return run(ctx, processes, patience)
}
