package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
)

const (
	defaultDimensions = 256
	maxDimensions     = 8192
)

type embeddingRequest struct {
	Model      string          `json:"model"`
	Input      json.RawMessage `json:"input"`
	Dimensions *int            `json:"dimensions"`
	Encoding   string          `json:"encoding_format"`
}

// embeddingJob is a request for embeddings that was understood.
type embeddingJob struct {
	model      string
	inputs     []string
	prompt     int // tokens
	dimensions int
	base64     bool
}

func (j *embeddingJob) modelName() string { return j.model }

func (j *embeddingJob) charge() int { return j.prompt }

// readEmbedding understands the body of POST /v1/embeddings. The model comes back even where the rest is refused.
func readEmbedding(body []byte, _ bool) (job, string, *problem) {
	var r embeddingRequest
	if p := decode(body, &r); p != nil {
		return nil, r.Model, p
	}
	j := &embeddingJob{model: r.Model, dimensions: defaultDimensions, base64: r.Encoding == "base64"}
	if r.Dimensions != nil {
		j.dimensions = *r.Dimensions
	}
	switch {
	case j.dimensions < 1 || j.dimensions > maxDimensions:
		return nil, r.Model, invalid("dimensions", "invalid_value",
			fmt.Sprintf("Invalid 'dimensions': expected a value between 1 and %d, but got %d instead.", maxDimensions, j.dimensions))
	case r.Encoding != "" && r.Encoding != "float" && r.Encoding != "base64":
		return nil, r.Model, invalid("encoding_format", "invalid_value",
			"Invalid 'encoding_format': expected 'float' or 'base64'.")
	}
	return j, r.Model, j.readInput(r.Input)
}

// readInput takes a string, a list of strings, a list of tokens, or a list of lists of tokens.
func (j *embeddingJob) readInput(raw json.RawMessage) *problem {
	var text string
	var ids []int
	var idLists [][]int
	switch {
	case len(raw) == 0:
		return invalid("input", "missing_required_parameter", "Missing required parameter: 'input'.")
	case json.Unmarshal(raw, &text) == nil:
		j.addText(text)
	case json.Unmarshal(raw, &j.inputs) == nil:
		for _, input := range j.inputs {
			j.prompt += tokens(input)
		}
	case json.Unmarshal(raw, &ids) == nil:
		j.inputs = nil
		j.addIDs(ids)
	case json.Unmarshal(raw, &idLists) == nil:
		j.inputs = nil
		for _, list := range idLists {
			j.addIDs(list)
		}
	default:
		return invalid("input", "invalid_type", "Invalid type for 'input': expected a string, an array of strings, or tokens.")
	}
	for _, input := range j.inputs {
		if input == "" {
			return invalid("input", "invalid_value", "Invalid 'input': it must not be empty.")
		}
	}
	if len(j.inputs) == 0 {
		return invalid("input", "invalid_value", "Invalid 'input': it must not be empty.")
	}
	return nil
}

func (j *embeddingJob) addText(text string) {
	j.inputs = append(j.inputs, text)
	j.prompt += tokens(text)
}

// addIDs takes each token's number for a word.
func (j *embeddingJob) addIDs(ids []int) {
	var text []byte
	for _, id := range ids {
		text = fmt.Appendf(text, "%d ", id)
	}
	j.inputs = append(j.inputs, string(text))
	j.prompt += len(ids)
}

// answer writes the embeddings.
func (j *embeddingJob) answer(*Region, uint64) *reply {
	list := &embeddingList{Object: "list", Model: j.model, Usage: &usage{Prompt: j.prompt, Total: j.prompt}}
	for i, input := range j.inputs {
		vector := embed(input, j.dimensions)
		var encoded any = vector
		if j.base64 {
			encoded = encodeVector(vector)
		}
		list.Data = append(list.Data, embedding{Object: "embedding", Index: i, Embedding: encoded})
	}
	return &reply{embeddings: list, in: j.prompt}
}

// embed hashes the words and pairs of words of a text into a vector of length 1: texts that share words are near
// each other. The same text always gets the same vector.
func embed(text string, dimensions int) []float32 {
	sums := make([]float64, dimensions)
	add := func(feature string) {
		h := fnv.New64a()
		_, _ = h.Write([]byte(feature))
		sum := h.Sum64()
		sign := 1.0
		if sum>>63 == 1 {
			sign = -1
		}
		sums[sum%uint64(dimensions)] += sign
	}
	words := wordsOf(text)
	for i, w := range words {
		add(w)
		if i > 0 {
			add(words[i-1] + " " + w)
		}
	}
	norm := 0.0
	for _, v := range sums {
		norm += v * v
	}
	if norm == 0 { // no words, or words that cancel each other out
		add(text + "\x00")
		norm = 1
	}
	vector := make([]float32, dimensions)
	for i, v := range sums {
		vector[i] = float32(v / math.Sqrt(norm))
	}
	return vector
}

// encodeVector is OpenAI's base64 form: little-endian float32.
func encodeVector(vector []float32) string {
	raw := make([]byte, 0, 4*len(vector))
	for _, v := range vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
