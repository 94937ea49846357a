package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/simulator"
)

// simulateFlags are those of `forebay simulate`.
type simulateFlags struct {
	listen        string
	regions       []string
	outages       []string
	seed          uint64
	rpm, tpm      int
	failureRate   float64
	failure       string
	answerBytes   int
	listFailures  bool
	writeConfigTo string
}

// simulateReply is what `forebay simulate --json` prints once it serves.
type simulateReply struct {
	URL      string           `json:"url"`
	Counters string           `json:"counters"`
	Regions  []simulateRegion `json:"regions"`
}

type simulateRegion struct {
	Name string `json:"name"`
	// URL is the base of the region's API: the `url` of an endpoint.
	URL string `json:"url"`
}

func newSimulateCommand() *cobra.Command {
	var flags simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Serve a simulated provider of several regions, for trying things out",
		Long: `Serve an OpenAI-compatible provider that is none: its chat completions are extractive summaries of
the last message. Every region is an endpoint of its own, with its own latency, limits and failures. It counts what
it was asked and what it answered, at /_simulator/counters.

A region is NAME[:LATENCY[:rpm=N][:tpm=N][:failures=RATE]], its latency a duration or a range of them; what it does
not say is as the flags for all regions say. An outage is REGION:KIND[,KIND...][:SPAN], its span in time since the
start (30s-60s) or in jobs answered (100-200); without one it lasts for ever.`,
		Example: `  forebay simulate
  forebay simulate --region tokyo:50ms-300ms --region paris:80ms:rpm=60 --outage tokyo:500,hang,reset:30s-60s
  forebay simulate --write-config simulated.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.listFailures {
				return printFailures(cmd)
			}
			return runSimulate(cmd, flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.listen, "listen", "127.0.0.1:9400", "`address` to serve on; port 0 takes a free one")
	f.StringArrayVar(&flags.regions, "region",
		[]string{"ap-northeast-1:20ms-60ms", "eu-west-1:60ms-120ms", "us-east-1:100ms-200ms"}, "a `region` (repeatable)")
	f.StringArrayVar(&flags.outages, "outage", nil, "an `outage` of a region (repeatable)")
	f.Uint64Var(&flags.seed, "seed", 1, "makes latencies and random failures repeatable")
	f.IntVar(&flags.rpm, "rpm", 0, "requests per minute, of each key in each region (default: no limit)")
	f.IntVar(&flags.tpm, "tpm", 0, "tokens per minute, of each key in each region (default: no limit)")
	f.Float64Var(&flags.failureRate, "failure-rate", 0, "share of the calls that fail, 0 to 1")
	f.StringVar(&flags.failure, "failure", "500", "the `kind` of those failures")
	f.IntVar(&flags.answerBytes, "answer-bytes", 0, "answer everything with so many bytes (default: with summaries)")
	f.BoolVar(&flags.listFailures, "list-failures", false, "print the kinds of failures and end")
	f.StringVar(&flags.writeConfigTo, "write-config", "", "write a configuration that uses this provider to `file`")
	return cmd
}

func printFailures(cmd *cobra.Command) error {
	failures := simulator.Failures()
	if wantsJSON(cmd) {
		return printJSON(cmd, failures)
	}
	list := table(cmd.OutOrStdout())
	row(list, "KIND", "STATUS", "DIALECT", "WHAT IT DOES")
	for _, failure := range failures {
		status := "none"
		if failure.Status != 0 {
			status = strconv.Itoa(failure.Status)
		}
		row(list, failure.Name, status, failure.Dialect, failure.Description)
	}
	return list.Flush()
}

func runSimulate(cmd *cobra.Command, flags simulateFlags) (err error) {
	simulatorConfig, err := flags.config()
	if err != nil {
		return refuseUsage(cmd, "%s", err)
	}
	provider, err := simulator.New(simulatorConfig)
	if err != nil {
		return refuseUsage(cmd, "%s", err)
	}
	defer func() { err = errors.Join(err, provider.Close()) }()
	listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", flags.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with --listen", flags.listen, listenProblem(err))
	}
	reply := describeSimulator(provider, listener.Addr())
	if flags.writeConfigTo != "" {
		if _, err := writeNew(flags.writeConfigTo, simulatedConfig(reply.Regions), false); err != nil {
			_ = listener.Close()
			return err
		}
	}
	if err := printSimulator(cmd, flags, reply); err != nil {
		_ = listener.Close()
		return err
	}
	return serve(cmd.Context(), listener, provider, func() { _ = provider.Close() })
}

// serve answers until the context ends. Calls that hang then are ended by release.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, release func()) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		release()
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(deadline)
	})()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return <-stopped
}

func describeSimulator(provider *simulator.Simulator, address net.Addr) simulateReply {
	base := "http://" + address.String()
	reply := simulateReply{URL: base, Counters: base + "/_simulator/counters"}
	for _, region := range provider.Regions() {
		reply.Regions = append(reply.Regions, simulateRegion{Name: region.Name(), URL: base + "/" + region.Name() + "/v1"})
	}
	return reply
}

func printSimulator(cmd *cobra.Command, flags simulateFlags, reply simulateReply) error {
	if wantsJSON(cmd) {
		return printJSON(cmd, reply)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Simulated provider on %s (seed %d)\n\n", reply.URL, flags.seed)
	list := table(out)
	for _, region := range reply.Regions {
		row(list, "  "+region.Name, region.URL)
	}
	row(list, "  counters", reply.Counters)
	if err := list.Flush(); err != nil {
		return err
	}
	if flags.writeConfigTo != "" {
		fmt.Fprintf(out, "\nTry it: forebay worker --config %[1]s\n        forebay enqueue --config %[1]s --type fast_summary --file doc.txt --wait\n",
			flags.writeConfigTo)
	} else {
		fmt.Fprintf(out, "\nTo use it, put this in the place of `accounts` and `endpoints` in your %s, or let\n--write-config write a whole file:\n\n%s",
			defaultConfigPath, simulatedEndpoints(reply.Regions))
	}
	_, err := fmt.Fprintln(out, "\nCtrl-C ends it.")
	return err
}

// listenProblem is an error less the address, which stands beside it.
func listenProblem(err error) error {
	var network *net.OpError
	if errors.As(err, &network) {
		return network.Err
	}
	return err
}
