#!/usr/bin/env bash
# Forebay from the shell, with redis-cli alone.
#
#   client.sh redis://127.0.0.1:6379/0 "a text" "another text" ...
set -euo pipefail

url=$1
shift
cli() { redis-cli -u "$url" --no-auth-warning "$@"; }

# quote TEXT: as a string of JSON. JSON forbids only the control characters, the quote and the backslash.
quote() {
  local text=${1//\\/\\\\} code char escape
  text=${text//\"/\\\"}
  for code in {1..31}; do # no variable of bash holds NUL
    printf -v char "\\x$(printf %x "$code")"
    printf -v escape '\\u%04x' "$code"
    text=${text//"$char"/"$escape"}
  done
  printf '"%s"' "$text"
}

# enqueue TASK_TYPE TEXT: puts one job into the inbox and prints its id. Without an id of its own a job has its entry's.
enqueue() {
  local entry
  entry=$(cli XADD forebay:inbox '*' job "{\"task_type\":$(quote "$1"),\"input\":$(quote "$2")}")
  echo "inbox-$entry"
}

# enqueue_many TASK_TYPE TEXT...: the same for many, on one connection. It prints their ids.
enqueue_many() {
  local type=$1 text id job number=0 batch
  batch="sh-$(date +%s)-$$-$RANDOM"
  shift
  exec 4>&1
  for text in "$@"; do
    id="$batch-$((number += 1))"
    job="{\"id\":\"$id\",\"task_type\":$(quote "$type"),\"input\":$(quote "$text")}"
    printf '*5\r\n$4\r\nXADD\r\n$13\r\nforebay:inbox\r\n$1\r\n*\r\n$3\r\njob\r\n$%d\r\n%s\r\n' "$(printf %s "$job" | wc -c)" "$job"
    echo "$id" >&3
  done 3>&4 | cli --pipe >/dev/null
}

# result ID: prints the result of a job that has ended, as JSON; otherwise fails. A refused job has ended as failed.
result() {
  case $(cli HGET "forebay:{job:$1}" status) in
    succeeded | failed | cancelled | expired) cli HGET "forebay:{job:$1}" result ;;
    *) return 1 ;;
  esac
}

# wait_for ID SECONDS: prints the job's result once it has ended. Subscribe, read, wait, and read again every 30 s: a
# message may be lost.
wait_for() {
  local end=$((SECONDS + $2)) subscriber
  while ((SECONDS < end)); do
    exec {done}< <(exec timeout 30 redis-cli -u "$url" --no-auth-warning SUBSCRIBE "forebay:{job:$1}:done")
    subscriber=$!
    # Three lines say that it is subscribed, three more that the job has ended.
    for _ in 1 2; do
      for _ in 1 2 3; do read -r _ <&"$done" || break; done
      if result "$1"; then
        kill "$subscriber" 2>/dev/null || true
        exec {done}<&-
        return
      fi
    done
    kill "$subscriber" 2>/dev/null || true
    exec {done}<&-
  done
  echo "job $1 has not ended" >&2
  return 1
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  ids=$(enqueue fast_summary "$1")
  if (($# > 1)); then ids+=" $(enqueue_many fast_summary "${@:2}")"; fi
  ids+=" $(enqueue no_such_task_type x)"
  for id in $ids; do
    echo "$id $(wait_for "$id" 60)"
  done
fi
