package simulator

import (
	"bytes"
	"net"
	"net/http"
	"time"
)

// FailureRetryAfter is the wait that the throttling failures name, in whichever form they name it.
const FailureRetryAfter = 2 * time.Second

// drips is how many pieces "drip-body" is sent in.
const drips = 20

func sendCanned(c *call, f *failure) {
	for name, value := range f.header {
		c.w.Header().Set(name, value)
	}
	c.send(outcome{kind: f.Name}, f.Status, []byte(f.body))
}

// sendDated names a date to wait for, in whole seconds, so that the wait is up to one second longer.
func sendDated(c *call, f *failure) {
	until := time.Now().Add(FailureRetryAfter + time.Second).Truncate(time.Second)
	c.w.Header().Set("Retry-After", until.UTC().Format(http.TimeFormat))
	sendCanned(c, f)
}

// hang answers nothing until the client goes away or the simulator is closed.
func hang(c *call, f *failure) {
	c.entry.settle(outcome{kind: f.Name})
	c.hold()
}

func (c *call) hold() {
	select {
	case <-c.r.Context().Done():
	case <-c.region.sim.closed:
		panic(http.ErrAbortHandler)
	}
}

// reset breaks the connection off.
func reset(c *call, f *failure) {
	c.entry.settle(outcome{kind: f.Name})
	c.breakOff()
}

// breakOff closes the connection, by a TCP reset where there is TCP.
func (c *call) breakOff() {
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil { // HTTP/2, or no connection of our own
		panic(http.ErrAbortHandler)
	}
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// half sends the head of a good answer and half of its body.
func half(c *call, f *failure, r *reply) {
	body := r.body()
	c.head(f.Status, len(body))
	c.entry.settle(outcome{kind: f.Name})
	c.write(body[:len(body)/2])
}

func hangHalfway(c *call, f *failure, r *reply) {
	half(c, f, r)
	c.hold()
}

func resetHalfway(c *call, f *failure, r *reply) {
	half(c, f, r)
	c.breakOff()
}

// spoil is a bend that sends other bytes than the good answer's.
func spoil(change func([]byte) []byte) func(*call, *failure, *reply) {
	return func(c *call, f *failure, r *reply) {
		c.send(outcome{kind: f.Name}, f.Status, change(r.body()))
	}
}

func cutShort(body []byte) []byte { return body[:len(body)*2/3] }

func malform(body []byte) []byte { return bytes.Replace(body, []byte(":"), []byte(";"), 1) }

// shape is a bend that changes what the answer says. Where embeddings have nothing that corresponds, their list is
// left empty, and stays whole when the client could use the answer.
func shape(change func(*chatCompletion)) func(*call, *failure, *reply) {
	return func(c *call, f *failure, r *reply) {
		switch {
		case r.chat != nil:
			change(r.chat)
			if u := r.chat.Usage; u != nil {
				r.out = *u.Completion
			}
		case !f.Answered:
			r.embeddings.Data = []embedding{}
		}
		c.send(outcome{f.Name, f.Answered, r.in, r.out}, f.Status, r.body())
	}
}

func dropUsage(c *call, f *failure, r *reply) {
	if r.chat != nil {
		r.chat.Usage = nil
	} else {
		r.embeddings.Usage = nil
	}
	c.send(outcome{f.Name, f.Answered, r.in, r.out}, f.Status, r.body())
}

func noChoices(c *chatCompletion) { c.Choices = []choice{} }

func emptyContent(c *chatCompletion) { c.say("", "stop") }

func filterContent(c *chatCompletion) { c.say("", "content_filter") }

// breakOffText ends the text half-way, as if max_tokens had been reached.
func breakOffText(c *chatCompletion) {
	text := *c.Choices[0].Message.Content
	c.say(cutWords(text, len(text)/2), "length")
}

func refuseToAnswer(c *chatCompletion) {
	refusal := "I'm sorry, but I can't assist with that request."
	c.say(refusal, "stop")
	for i := range c.Choices {
		c.Choices[i].Message.Content, c.Choices[i].Message.Refusal = nil, &refusal
	}
}

// say puts a text into all choices, and the usage right.
func (c *chatCompletion) say(text, finish string) {
	for i := range c.Choices {
		c.Choices[i].Message.Content, c.Choices[i].FinishReason = &text, finish
	}
	out := tokens(text) * len(c.Choices)
	c.Usage.Completion, c.Usage.Total = &out, c.Usage.Prompt+out
}

// sendLate waits before it sends the answer's head.
func sendLate(c *call, f *failure, r *reply) {
	if !c.wait(c.region.config.Slow) {
		c.entry.abandon()
		return
	}
	c.send(outcome{f.Name, f.Answered, r.in, r.out}, f.Status, r.body())
}

// drip sends the head at once and the body piece by piece.
func drip(c *call, f *failure, r *reply) {
	body := r.body()
	c.head(f.Status, len(body))
	for i := range drips {
		piece := body[len(body)*i/drips : len(body)*(i+1)/drips]
		if !c.wait(c.region.config.Slow / drips) {
			c.entry.abandon()
			return
		}
		if i == drips-1 {
			c.entry.settle(outcome{f.Name, f.Answered, r.in, r.out})
		}
		if !c.write(piece) {
			c.entry.abandon()
			return
		}
	}
}
