-- POSTs bodies from a file, one JSON document a line, and ends with one line of JSON.
-- Called as: wrk ... URL -- BODIES

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

-- Formatted once: what remains for a request is one look into a table. Threads start a stretch of a prime
-- number of bodies apart, so that no two send the same ones side by side.
function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  requests = {}
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(nil, nil, nil, body)
  end
  at = number * 7919
end

function request()
  at = at + 1
  return requests[at % #requests + 1]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "max_us": %d, ' ..
    '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
