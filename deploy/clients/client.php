<?php
// Forebay from PHP, with the extension redis alone (pecl install redis, or Debian's php-redis).
//
//   php client.php 127.0.0.1 6379 "a text" "another text" ...
declare(strict_types=1);

/** Puts one job into the inbox and returns its id. */
function enqueue(Redis $redis, array $job): string
{
    return enqueueMany($redis, [$job])[0];
}

/** Puts jobs into the inbox, in one round trip, and returns their ids. Sent twice under one id, a job is done once. */
function enqueueMany(Redis $redis, array $jobs): array
{
    $ids = [];
    $pipe = $redis->pipeline();
    foreach ($jobs as $job) {
        $job += ['id' => bin2hex(random_bytes(16))];
        $pipe->xAdd('forebay:inbox', '*', ['job' => json_encode($job, JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR)]);
        $ids[] = $job['id'];
    }
    $pipe->exec();
    return $ids;
}

/** The result of a job that has ended, or null. A job that was refused has ended as failed. */
function read(Redis $redis, string $id): ?array
{
    $record = $redis->hMGet("forebay:{job:$id}", ['status', 'result']);
    if (!in_array($record['status'], ['succeeded', 'failed', 'cancelled', 'expired'], true)) {
        return null;
    }
    return json_decode($record['result'], true, 512, JSON_THROW_ON_ERROR);
}

/**
 * Waits for a job's result: subscribe, read, wait, and read again every 30 s, since a message may be lost.
 * A subscription takes a connection of its own, which $connect makes. (phpredis tells nobody that it has subscribed, so
 * that the job may end right between the read and the subscription: the first wait is short.)
 */
function wait(Redis $redis, callable $connect, string $id, float $timeout = INF): array
{
    $end = microtime(true) + $timeout;
    for ($pause = 1.0; ; $pause = 30.0) {
        if (($result = read($redis, $id)) !== null) {
            return $result;
        }
        $left = $end - microtime(true);
        if ($left <= 0) {
            throw new RuntimeException("job $id has not ended");
        }
        $subscriber = $connect();
        $subscriber->setOption(Redis::OPT_READ_TIMEOUT, min($pause, $left));
        try {
            @$subscriber->subscribe(["forebay:{job:$id}:done"], fn ($s, $channel, $message) => $s->close());
        } catch (RedisException) {
            // told, or the time is over: read it
        }
    }
}

if (realpath($argv[0]) === __FILE__) {
    [, $host, $port, $first] = $argv;
    $connect = function () use ($host, $port): Redis {
        $redis = new Redis();
        $redis->connect($host, (int) $port);
        return $redis;
    };
    $redis = $connect();
    $ids = [enqueue($redis, ['task_type' => 'fast_summary', 'input' => $first])];
    $jobs = array_map(fn ($text) => ['task_type' => 'fast_summary', 'input' => $text], array_slice($argv, 4));
    array_push($ids, ...enqueueMany($redis, $jobs));
    $ids[] = enqueue($redis, ['task_type' => 'no_such_task_type', 'input' => 'x']);
    foreach ($ids as $id) {
        $result = wait($redis, $connect, $id, 60);
        echo $id, ' ', $result['status'], ' ', $result['text'] ?? $result['error']['message'], "\n";
    }
}
