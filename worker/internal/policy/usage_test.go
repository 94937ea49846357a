package policy_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/worker/internal/policy"
)

func TestEstimateUsage(t *testing.T) {
	t.Parallel()
	want := &tasks.Usage{PromptTokens: 7, CompletionTokens: 17, TotalTokens: 24, Estimated: true}
	assert.Equal(t, want, policy.EstimateUsage(7, "这是一个用于测试的中文句子,没有空格也没有换行。"))
}
