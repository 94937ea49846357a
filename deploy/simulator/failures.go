package simulator

import "net/http"

// Dialects of Failures.
const (
	DialectOpenAI    = "openai"    // string codes
	DialectVLLM      = "vllm"      // integer codes, types such as BadRequestError
	DialectRelay     = "relay"     // one-api, new-api and their kin
	DialectArticle   = "article"   // the error bodies of the article that this project began with, word by word
	DialectHTTP      = "http"      // what proxies and web servers answer in a provider's place
	DialectTransport = "transport" // no answer, or half of one
)

// Failure is a way to fail that the simulator knows.
type Failure struct {
	// Name is what HeaderFailure, RegionConfig.Failure and Outage.Kinds call it, and the counters.
	Name string `json:"name"`
	// Status is the HTTP status; 0 means that there is no answer at all.
	Status int `json:"status"`
	// Dialect is one of the Dialect constants.
	Dialect string `json:"dialect"`
	// Answered tells that the client gets something it can use; the counters take such a call for answered OK.
	Answered bool `json:"answered"`
	// Description is one clause for people.
	Description string `json:"description"`
}

// failure is a row of the table of failures. Either act or bend is set.
type failure struct {
	Failure
	header map[string]string // of a canned answer
	body   string            // of a canned answer
	act    func(*call, *failure)
	bend   func(*call, *failure, *reply)
}

// Failures lists every way to fail, in the order of the table.
func Failures() []Failure {
	list := make([]Failure, len(failureTable))
	for i, f := range failureTable {
		list[i] = f.Failure
	}
	return list
}

func failureNames() []string {
	names := make([]string, len(failureTable))
	for i, f := range failureTable {
		names[i] = f.Name
	}
	return names
}

// failures holds the table by name.
var failures = func() map[string]*failure {
	byName := make(map[string]*failure, len(failureTable))
	for i := range failureTable {
		f := &failureTable[i]
		if byName[f.Name] != nil {
			panic("simulator: two failures of the name " + f.Name)
		}
		byName[f.Name] = f
	}
	return byName
}()

// canned is a failure with the same answer every time. Its header is a list of names and values.
func canned(dialect, name string, status int, description, body string, header ...string) failure {
	f := failure{
		Failure: Failure{Name: name, Status: status, Dialect: dialect, Description: description},
		header:  map[string]string{},
		body:    body,
		act:     sendCanned,
	}
	for i := 0; i+1 < len(header); i += 2 {
		f.header[header[i]] = header[i+1]
	}
	return f
}

// lost is a failure without an answer.
func lost(name, description string, act func(*call, *failure)) failure {
	return failure{Failure: Failure{Name: name, Dialect: DialectTransport, Description: description}, act: act}
}

// bent is a failure that spoils, or only alters, a good answer.
func bent(dialect, name string, answered bool, description string, bend func(*call, *failure, *reply)) failure {
	return failure{
		Failure: Failure{Name: name, Status: http.StatusOK, Dialect: dialect, Answered: answered, Description: description},
		bend:    bend,
	}
}
