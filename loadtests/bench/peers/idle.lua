-- wrk.lua, with people who think: each connection waits up to a minute before each request, so that nearly all
-- of many connections are open and idle.
dofile(os.getenv("WRK_SCRIPT"))

function delay()
  return math.random(0, 60000)
end
