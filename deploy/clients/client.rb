#!/usr/bin/env ruby
# Forebay from Ruby, with the gem redis alone (gem install redis, or Debian's ruby-redis).
#
#   client.rb redis://127.0.0.1:6379/0 "a text" "another text" ...
require "json"
require "redis"
require "securerandom"

module Forebay
  ENDS = %w[succeeded failed cancelled expired].freeze

  module_function

  # Puts one job into the inbox and returns its id.
  def enqueue(redis, job)
    enqueue_many(redis, [job]).first
  end

  # Puts jobs into the inbox, in one round trip, and returns their ids. Sent twice under one id, a job is done once.
  def enqueue_many(redis, jobs)
    jobs = jobs.map { |job| { id: SecureRandom.uuid }.merge(job) }
    redis.pipelined do |pipe|
      jobs.each { |job| pipe.xadd("forebay:inbox", { job: JSON.generate(job) }) }
    end
    jobs.map { |job| job[:id] }
  end

  # The result of a job that has ended, or nil. A job that was refused has ended as failed.
  def read(redis, id)
    status, result = redis.hmget("forebay:{job:#{id}}", "status", "result")
    JSON.parse(result) if ENDS.include?(status)
  end

  # Waits for a job's result: subscribe, read, wait, and read again every 30 s, since a message may be lost.
  # A subscription takes a connection of its own, which is url's.
  def wait(redis, url, id, timeout: Float::INFINITY)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout
    loop do
      left = deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC)
      raise "job #{id} has not ended" if left <= 0

      result = nil
      subscriber = Redis.new(url: url, timeout: 5)
      begin
        subscriber.subscribe_with_timeout([30, left].min, "forebay:{job:#{id}}:done") do |on|
          look = lambda { |*|
            result = read(redis, id)
            subscriber.unsubscribe if result
          }
          on.subscribe(&look)
          on.message(&look)
        end
      rescue Redis::TimeoutError
        result = read(redis, id)
      ensure
        subscriber.close
      end
      return result if result
    end
  end
end

if $PROGRAM_NAME == __FILE__
  url, first, *others = ARGV
  redis = Redis.new(url: url)
  ids = [Forebay.enqueue(redis, { task_type: "fast_summary", input: first })]
  ids += Forebay.enqueue_many(redis, others.map { |text| { task_type: "fast_summary", input: text } })
  ids << Forebay.enqueue(redis, { task_type: "no_such_task_type", input: "x" })
  ids.each do |id|
    result = Forebay.wait(redis, url, id, timeout: 60)
    puts [id, result["status"], result["text"] || result["error"]["message"]].join(" ")
  end
end
