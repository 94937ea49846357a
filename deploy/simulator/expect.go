package simulator

// Expect says what a call would be charged for without making it: the tokens of its prompt and of its answer. It takes the
// body of a chat completion, or of a call for embeddings, with or without its model; ok is false where the call would be
// refused. AnswerSummary is assumed.
func Expect(body []byte, embedding bool) (in, out int, ok bool) {
	read := readChat
	if embedding {
		read = readEmbedding
	}
	job, _, problem := read(body, false)
	if problem != nil {
		return 0, 0, false
	}
	switch j := job.(type) {
	case *chatJob:
		text, _ := summarise(j.document, j.bound)
		return j.prompt, tokens(text) * j.choices, true
	case *embeddingJob:
		return j.prompt, 0, true
	}
	return 0, 0, false
}
