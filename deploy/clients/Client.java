import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.json.JSONObject;
import redis.clients.jedis.JedisPooled;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.params.XAddParams;

/**
 * Forebay from Java, with Jedis alone (redis.clients:jedis, which brings org.json along).
 *
 * <pre>java -cp "jars/*" Client.java redis://127.0.0.1:6379/0 "a text" "another text" ...</pre>
 */
public class Client {
    private static final Set<String> ENDS = Set.of("succeeded", "failed", "cancelled", "expired");

    /** Puts one job into the inbox and returns its id. */
    static String enqueue(JedisPooled redis, JSONObject job) {
        return enqueueMany(redis, List.of(job)).get(0);
    }

    /** Puts jobs into the inbox, in one round trip, and returns their ids. Sent twice under one id, a job is done once. */
    static List<String> enqueueMany(JedisPooled redis, List<JSONObject> jobs) {
        List<String> ids = new ArrayList<>();
        try (Pipeline pipe = redis.pipelined()) {
            for (JSONObject job : jobs) {
                if (!job.has("id")) {
                    job.put("id", UUID.randomUUID().toString());
                }
                pipe.xadd("forebay:inbox", XAddParams.xAddParams(), java.util.Map.of("job", job.toString()));
                ids.add(job.getString("id"));
            }
        }
        return ids;
    }

    /** The result of a job that has ended, or null. A job that was refused has ended as failed. */
    static JSONObject read(JedisPooled redis, String id) {
        List<String> record = redis.hmget("forebay:{job:" + id + "}", "status", "result");
        return record.get(0) != null && ENDS.contains(record.get(0)) ? new JSONObject(record.get(1)) : null;
    }

    /** Waits for a job's result: subscribe, read, wait, and read again every 30 s, since a message may be lost. */
    static JSONObject await(JedisPooled redis, String id, long timeoutMillis) throws Exception {
        long end = System.currentTimeMillis() + timeoutMillis;
        SynchronousQueue<Boolean> told = new SynchronousQueue<>();
        JedisPubSub done = new JedisPubSub() {
            @Override
            public void onSubscribe(String channel, int count) {
                told.offer(true);
            }

            @Override
            public void onMessage(String channel, String message) {
                told.offer(true);
            }
        };
        Thread subscriber = new Thread(() -> redis.subscribe(done, "forebay:{job:" + id + "}:done"));
        subscriber.setDaemon(true);
        subscriber.start();
        try {
            for (boolean first = true;; first = false) {
                long pause = Math.min(first ? 1_000 : 30_000, end - System.currentTimeMillis());
                told.poll(Math.max(pause, 0), TimeUnit.MILLISECONDS);
                JSONObject result = read(redis, id);
                if (result != null) {
                    return result;
                }
                if (System.currentTimeMillis() >= end) {
                    throw new TimeoutException("job " + id + " has not ended");
                }
            }
        } finally {
            if (done.isSubscribed()) {
                done.unsubscribe();
            }
        }
    }

    static JSONObject summary(String text) {
        return new JSONObject().put("task_type", "fast_summary").put("input", text);
    }

    public static void main(String[] args) throws Exception {
        try (JedisPooled redis = new JedisPooled(args[0])) {
            List<String> ids = new ArrayList<>(List.of(enqueue(redis, summary(args[1]))));
            List<JSONObject> others = new ArrayList<>();
            for (int i = 2; i < args.length; i++) {
                others.add(summary(args[i]));
            }
            ids.addAll(enqueueMany(redis, others));
            ids.add(enqueue(redis, new JSONObject().put("task_type", "no_such_task_type").put("input", "x")));
            for (String id : ids) {
                JSONObject result = await(redis, id, 60_000);
                String text = result.optString("text");
                System.out.println(id + " " + result.getString("status") + " "
                        + (text.isEmpty() ? result.getJSONObject("error").getString("message") : text));
            }
        }
    }
}
