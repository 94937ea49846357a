package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/deploy/simulator"
)

// One region goes down while another answers.
func Example() {
	sim, err := simulator.New(simulator.Config{
		Seed: 1,
		Regions: []simulator.RegionConfig{
			{Name: "apac", Latency: simulator.Distribution{Min: time.Millisecond, Max: 3 * time.Millisecond}},
			{Name: "eu"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = sim.Close() }()
	client := &http.Client{Transport: sim.Listen().Transport()}
	if err := sim.Region("apac").SetOutage("503"); err != nil {
		fmt.Println(err)
		return
	}

	for _, region := range []string{"apac", "eu"} {
		body := `{"model":"any","messages":[{"role":"user","content":"Summarise this text:\n\nA forebay is a pool of water."}]}`
		resp, err := client.Post("http://simulated/"+region+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			fmt.Println(err)
			return
		}
		var answer struct {
			Choices []struct{ Message struct{ Content string } }
			Error   struct{ Message string }
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(region, resp.StatusCode, answer.Error.Message, answer.Choices)
	}
	fmt.Println("answered:", sim.Counters().JobsAnswered)
	// Output:
	// apac 503 The engine is currently overloaded, please try again later. []
	// eu 200  [{{A forebay is a pool of water.}}]
	// answered: 1
}
