package alerts

import (
	"fmt"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

// mostShown is how many alerts a message shows: all formats have limits of their length.
const mostShown = 20

// utc is how times are written to people.
const utc = "2006-01-02 15:04:05 UTC"

// words are what a message says, whatever its format.
type words struct {
	Title string
	// Color is that of the gravest: red, orange or green.
	Color string
	Items []item
	// More is how many alerts are not shown.
	More int
}

// item is what is said of one alert.
type item struct {
	// Head is its severity, its name and what it is about.
	Head, Summary, Times string
	// Do and Runbook are empty once it is over.
	Do, Runbook string
}

func wordsOf(message alerts.Message) words {
	w := words{Color: "green"}
	var firing, over []string
	for i, alert := range message.Alerts {
		name := nameOf(alert)
		if alert.Over() {
			over = append(over, name)
		} else {
			firing = append(firing, name)
			if w.Color != "red" {
				w.Color = "orange"
			}
			if alert.Severity == alerts.Critical {
				w.Color = "red"
			}
		}
		if i >= mostShown {
			w.More++
			continue
		}
		w.Items = append(w.Items, itemOf(alert))
	}
	var parts []string
	if len(firing) > 0 {
		parts = append(parts, count("FIRING", "still firing", message.Reminder, firing))
	}
	if len(over) > 0 {
		parts = append(parts, count("OVER", "", false, over))
	}
	w.Title = cut("[Forebay] "+strings.Join(parts, " · "), 150)
	return w
}

func count(word, again string, isAgain bool, names []string) string {
	if isAgain {
		word = again
	}
	if len(names) == 1 {
		return word + ": " + names[0]
	}
	return fmt.Sprintf("%s (%d): %s", word, len(names), strings.Join(names, ", "))
}

func nameOf(alert alerts.Alert) string {
	title := alerts.Kinds[alert.Name].Title
	if title == "" {
		title = "Test"
	}
	if alert.Subject == "" {
		return title
	}
	return title + " (" + alert.Subject + ")"
}

func itemOf(alert alerts.Alert) item {
	said := item{Head: strings.ToUpper(string(alert.Severity)) + " · " + nameOf(alert), Summary: alert.Summary}
	since := "Since " + alert.Since.UTC().Format(utc)
	if alert.Over() {
		said.Head = "OVER · " + nameOf(alert)
		said.Times = fmt.Sprintf("%s, over at %s, after %s", since, alert.Until.UTC().Format(utc), alert.Until.Sub(alert.Since).Round(time.Second))
		return said
	}
	said.Times, said.Do, said.Runbook = since, alerts.Kinds[alert.Name].Do, alert.Runbook()
	return said
}

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// more says how many are not shown.
func (w words) more() string {
	return fmt.Sprintf("… and %d more; `forebay alerts list` shows them.", w.More)
}

// plain is a message as text.
func (w words) plain() string {
	var out strings.Builder
	for _, said := range w.Items {
		fmt.Fprintf(&out, "%s\n  %s\n  %s\n", said.Head, said.Summary, said.Times)
		if said.Do != "" {
			fmt.Fprintf(&out, "  What to do: %s\n", said.Do)
		}
		if said.Runbook != "" {
			fmt.Fprintf(&out, "  Runbook: %s\n", said.Runbook)
		}
		out.WriteString("\n")
	}
	if w.More > 0 {
		out.WriteString(w.more() + "\n")
	}
	return out.String()
}

// markdown is a message in the Markdown that Lark and DingTalk have in common, with an item a part.
func (w words) markdown() []string {
	var parts []string
	for _, said := range w.Items {
		lines := []string{"**" + angles(said.Head) + "**", angles(said.Summary), angles(said.Times)}
		if said.Do != "" {
			lines = append(lines, "What to do: "+angles(said.Do))
		}
		if said.Runbook != "" {
			lines = append(lines, "[Runbook]("+said.Runbook+")")
		}
		parts = append(parts, strings.Join(lines, "\n\n"))
	}
	if w.More > 0 {
		parts = append(parts, w.more())
	}
	return parts
}

// angles has no text be taken for a tag or a mention.
func angles(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
