package main_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
)

// chaos is a deployment to be struck.
type chaos struct {
	*deployment
	plan     chaosPlan
	view     *providerView
	places   map[string][]*place
	addrs    []string // of the producers
	canary   *canary
	receiver *receiver
	redisDir string
	strokes  []stroke
}

// stroke is a blow that was struck.
type stroke struct {
	blow
	time time.Time
	// redis and led tell whether Redis lived at that moment, and whether a scheduler led.
	redis, led bool
	leader     bool // the scheduler that was struck led
	out        int  // calls of the worker that was struck
	// up is when Redis answered again; lost are the writes, of those that it had answered to, that were gone then, and
	// lostFrom the moment from which on a write may be among them.
	up, lostFrom time.Time
	lost         int
}

func newChaos(t *testing.T, plan chaosPlan) *chaos {
	t.Helper()
	receiver := newReceiver(t, plan.seed)
	c := &chaos{plan: plan, places: map[string][]*place{}, receiver: receiver}
	c.deployment = deploy(t, site{
		slots: plan.slots, fsync: "everysec", callTimeout: 10 * time.Second, more: receiver.config(),
		regions: []simulator.RegionConfig{
			{Name: "first", Answer: simulator.AnswerFixed, AnswerBytes: 400, Latency: chaosLatency},
			{Name: "second", Answer: simulator.AnswerFixed, AnswerBytes: 400, Latency: chaosLatency},
		},
	})
	c.view = &providerView{sim: c.sim}
	c.canary = newCanary(t, c.server)
	common := []string{"--log-format", "json"}
	for range plan.producers {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := listener.Addr().String()
		require.NoError(t, listener.Close())
		c.addrs = append(c.addrs, addr)
		c.keep(chaosProducer, append(common, "producer", "--listen", addr)...)
	}
	for range plan.schedulers {
		c.keep(chaosScheduler, append(common, "scheduler")...)
	}
	for i := range plan.workers {
		c.keep(chaosWorker, append(common, "worker", "--config", c.workerConfig(i))...)
	}
	for what, line := range map[string]string{
		chaosProducer: "HTTP interface listens", chaosScheduler: "scheduler started", chaosWorker: "worker started",
	} {
		for _, p := range c.places[what] {
			c.eventually("a "+what+" starts", func() bool { return p.says(line) })
		}
	}
	c.eventually("a scheduler leads", c.led)
	c.redisDir = c.redis.ConfigGet(t.Context(), "dir").Val()["dir"]
	if plan.disk > 0 {
		pressDisk(t, plan.disk)
	}
	return c
}

// workerConfig writes the configuration of one worker, which differs in the provider's address.
func (c *chaos) workerConfig(i int) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "forebay.yaml"))
	require.NoError(c.t, err)
	path := filepath.Join(c.dir, fmt.Sprintf("worker-%d.yaml", i))
	own := strings.ReplaceAll(string(text), c.provider, c.view.serve(c.t))
	require.NoError(c.t, os.WriteFile(path, []byte(own), 0o600))
	return path
}

// place is where one process is kept running, as a supervisor does.
type place struct {
	name  string
	start func() (*process, error)

	mu       sync.Mutex
	current  *process
	down     time.Duration // until the next one starts
	killed   bool          // the current one, by the test
	last     string        // what the one before wrote last
	left     []string      // why processes left that nobody had killed
	stopping bool
}

// keep starts a process and starts another one whenever it has ended.
func (c *chaos) keep(what string, args ...string) {
	c.t.Helper()
	p := &place{name: fmt.Sprintf("%s %d", what, len(c.places[what]))}
	p.start = func() (*process, error) { return c.launch(args...) }
	c.places[what] = append(c.places[what], p)
	var err error
	p.current, err = p.start()
	require.NoError(c.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.supervise(p)
	}()
	c.t.Cleanup(func() {
		p.mu.Lock()
		p.stopping = true
		_ = p.current.cmd.Process.Kill()
		p.mu.Unlock()
		<-done
		c.keepLog(p.name, p.current)
		if c.t.Failed() {
			c.t.Logf("log of %s, of the process before:\n%s\nand of the last one:\n%s", p.name, p.last, lastLines(p.current.log.text(), 30))
		}
	})
}

func (c *chaos) supervise(p *place) {
	for {
		p.mu.Lock()
		current := p.current
		p.mu.Unlock()
		<-current.ended
		p.mu.Lock()
		if p.stopping || c.t.Context().Err() != nil {
			p.mu.Unlock()
			return
		}
		p.last = lastLines(current.log.text(), 30)
		c.keepLog(p.name, current)
		if !p.killed {
			p.left = append(p.left, lastLines(p.last, 1))
			p.down = 200 * time.Millisecond
		}
		down := p.down
		p.mu.Unlock()
		time.Sleep(down)
		next, err := p.start()
		if err != nil { // the test has ended
			return
		}
		p.mu.Lock()
		p.current, p.killed = next, false
		if p.stopping {
			_ = next.cmd.Process.Kill()
		}
		p.mu.Unlock()
	}
}

// keepLog writes the whole log of a process that has ended to the folder that FOREBAY_CHAOS_LOGS names.
func (c *chaos) keepLog(name string, p *process) {
	if folder := os.Getenv("FOREBAY_CHAOS_LOGS"); folder != "" {
		file := filepath.Join(folder, fmt.Sprintf("%s-%d.log", strings.ReplaceAll(name, " ", "-"), p.cmd.Process.Pid))
		_ = os.WriteFile(file, []byte(p.log.text()), 0o600)
	}
}

// kill ends the process of the place, waiting for one that is about to start, and tells before another one starts.
func (p *place) kill(down time.Duration, dead func(*process, time.Time)) {
	for {
		p.mu.Lock()
		if p.current.alive() && !p.killed {
			break
		}
		p.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	defer p.mu.Unlock()
	p.killed, p.down = true, down
	at := time.Now()
	p.current.kill()
	dead(p.current, at)
}

// says tells whether the log of the current process has a line.
func (p *place) says(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.current.log.text(), `"`+line+`"`)
}

// leads tells whether a scheduler was the leader when it last said something of it.
func (p *process) leads() bool {
	log := p.log.text()
	return strings.LastIndex(log, `"leads"`) > strings.LastIndex(log, `"leads no more"`)
}

func (c *chaos) led() bool {
	for _, p := range c.places[chaosScheduler] {
		p.mu.Lock()
		leads := p.current.alive() && p.current.leads()
		p.mu.Unlock()
		if leads {
			return true
		}
	}
	return false
}

func (c *chaos) strike(b blow) {
	c.t.Helper()
	s := stroke{blow: b, redis: !c.canary.caged, led: c.led(), time: time.Now()}
	switch b.what {
	case chaosRedis:
		c.canary.cage()
		s.time = time.Now()
		c.server.Kill()
		c.cutFile(b.cut)
	case chaosRedisUp:
		c.server.Start()
		s.lost, s.lostFrom = c.canary.release()
		s.up = time.Now()
	default:
		p := c.places[b.what][b.which]
		p.kill(b.down, func(dead *process, at time.Time) {
			s.time = at
			s.leader = b.what == chaosScheduler && dead.leads()
			if b.what == chaosWorker {
				s.out = c.view.died(b.which, s.time)
			}
		})
	}
	c.strokes = append(c.strokes, s)
}
