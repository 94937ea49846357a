package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/scheduler"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// alertsReply is what `forebay alerts list --json` prints.
type alertsReply struct {
	Firing []alerts.Alert `json:"firing"`
	// Undelivered are the messages that no channel has taken yet.
	Undelivered []undeliveredAlert `json:"undelivered"`
}

// undeliveredAlert is a message that is tried again.
type undeliveredAlert struct {
	ID      string    `json:"id"`
	Channel string    `json:"channel"`
	At      time.Time `json:"at"`
	Tries   int       `json:"tries"`
	// Next is when it is tried again; absent where that is now.
	Next   *time.Time     `json:"next,omitempty"`
	Alerts []alerts.Alert `json:"alerts"`
}

// alertTests is what `forebay alerts test --json` prints.
type alertTests struct {
	Channels []alertTest `json:"channels"`
}

// alertTest is what came of a message to one channel.
type alertTest struct {
	Channel string      `json:"channel"`
	Type    alerts.Type `json:"type"`
	Taken   bool        `json:"taken"`
	Error   string      `json:"error,omitempty"`
}

func newAlertsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "Show what is wrong, and try the channels that are told of it",
		Long: `Show the alerts that fire, and try the channels of the configuration that are told of them. The scheduler that leads
judges the deployment and tells the channels; docs/alerts.md says how.`,
	}
	cmd.AddCommand(newAlertsListCommand(), newAlertsTestCommand())
	asGroup(cmd)
	return cmd
}

func newAlertsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the alerts that fire, and the messages that no channel has taken yet",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onRedisOf(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
				reply, err := readAlerts(ctx, client, keyspace.New(s.prefix))
				switch {
				case err != nil:
					return err
				case wantsJSON(cmd):
					return printJSON(cmd, reply)
				}
				return printAlerts(cmd.OutOrStdout(), reply, time.Now())
			})
		},
	}
}

func readAlerts(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (alertsReply, error) {
	reply := alertsReply{Undelivered: []undeliveredAlert{}}
	var err error
	if reply.Firing, err = alerts.Firing(ctx, client, keys); err != nil {
		return reply, err
	}
	waiting, err := alerts.New(client, keys).Outbox(ctx)
	for _, message := range waiting {
		entry := undeliveredAlert{ID: message.ID, Channel: message.Channel, At: message.At, Tries: message.Tries, Alerts: message.Alerts}
		if message.RestsUntil.After(time.Now()) {
			entry.Next = &message.RestsUntil
		}
		reply.Undelivered = append(reply.Undelivered, entry)
	}
	return reply, err
}

func printAlerts(out io.Writer, reply alertsReply, now time.Time) error {
	if len(reply.Firing) == 0 {
		fmt.Fprintln(out, "No alert fires.")
	} else if err := printFiring(out, reply.Firing, now); err != nil {
		return err
	}
	if len(reply.Undelivered) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := table(out)
	row(w, "UNDELIVERED TO", "SINCE", "TRIES", "ALERTS")
	for _, message := range reply.Undelivered {
		names := make([]string, len(message.Alerts))
		for i, alert := range message.Alerts {
			names[i] = strings.TrimSuffix(alert.Key(), "/")
		}
		row(w, message.Channel, message.At.UTC().Format(time.RFC3339), message.Tries, strings.Join(names, ", "))
	}
	return w.Flush()
}

func printFiring(out io.Writer, firing []alerts.Alert, now time.Time) error {
	w := table(out)
	row(w, "ALERT", "SUBJECT", "SEVERITY", "FOR", "WHAT")
	for _, alert := range firing {
		row(w, alert.Name, dash(alert.Subject), alert.Severity, now.Sub(alert.Since).Round(time.Second), alert.Summary)
	}
	return w.Flush()
}

func newAlertsTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test [CHANNEL...]",
		Short: "Send a message to channels that says it is a test",
		Long: `Send a message to the channels of the configuration, or to those that are named, which says that it is a test. It goes
from this machine, in the format of the channel and signed as its alerts are, once. Redis is not needed.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			channels, err := channelsOf(cmd, s, names)
			if err != nil {
				return err
			}
			return tryChannels(cmd, channels)
		},
	}
}

// channelsOf are those of the configuration with these names, or all.
func channelsOf(cmd *cobra.Command, s *settings, names []string) ([]alerts.Channel, error) {
	told := s.file.AlertSettings()
	switch {
	case told == nil:
		return nil, errors.New("alerts.enabled is off in the configuration: nobody is told of anything")
	case len(told.Channels) == 0:
		return nil, errors.New("the configuration has no alerts.channels; docs/alerts.md says how to add one")
	case len(names) == 0:
		return told.Channels, nil
	}
	var chosen []alerts.Channel
	for _, name := range names {
		i := slices.IndexFunc(told.Channels, func(c alerts.Channel) bool { return c.Name == name })
		if i < 0 {
			var known []string
			for _, channel := range told.Channels {
				known = append(known, channel.Name)
			}
			return nil, refuseUsage(cmd, "there is no channel %q in the configuration; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, told.Channels[i])
	}
	return chosen, nil
}

// tryChannels tries them one after the other. One that does not take its message keeps no other from being tried.
func tryChannels(cmd *cobra.Command, channels []alerts.Channel) error {
	reply, failed := alertTests{Channels: []alertTest{}}, 0
	for _, channel := range channels {
		tried := alertTest{Channel: channel.Name, Type: channel.Type, Taken: true}
		if err := scheduler.TestAlert(cmd.Context(), channel); err != nil {
			tried.Taken, tried.Error = false, err.Error()
			failed++
		}
		reply.Channels = append(reply.Channels, tried)
		if !wantsJSON(cmd) {
			said := "took the message"
			if !tried.Taken {
				said = "did not take it: " + tried.Error
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s (%s) %s\n", tried.Channel, tried.Type, said)
		}
	}
	if wantsJSON(cmd) {
		if err := printJSON(cmd, reply); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s did not take the message", failed, plural(len(channels), "channel"))
	}
	return nil
}
