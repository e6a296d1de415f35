# shellcheck shell=bash
# Read by up, node and down: where this cluster lives, which ports it takes, how a node is started.

folder=${RAYLOTTERY_CLUSTER:-${TMPDIR:-/tmp}/cluster-of-$(id -un)} # short: Ray's sockets lie below it
port=${RAYLOTTERY_CLUSTER_PORT:-24000}                             # and the 1999 above it
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ray=$(command -v ray || echo "$root/.venv/bin/ray")

# Ray takes 127.0.0.1 for "find me a public address", and would then listen everywhere. It leaves
# the same name in capitals alone, and listens on loopback only.
# shellcheck disable=SC2034 # up and node read it
address=LOCALHOST:$port

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0
unset RAY_ADDRESS RAY_AUTH_TOKEN

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# start NAME INDEX OPTION...: a node in a session of its own, whose id is the recorded process id.
start() {
  local name=$1 index=$2
  shift 2
  local first=$((port + 200 * (index + 1)))
  setsid "$ray" start --block --dashboard-agent-listen-port=$((port + 10 + index)) \
    --min-worker-port="$first" --max-worker-port=$((first + 199)) \
    --object-store-memory=$((200 * 1024 * 1024)) --disable-usage-stats "$@" \
    >"$folder/$name.log" 2>&1 </dev/null &
  echo $! >"$folder/$name.pid"
  for _ in {1..300}; do
    if grep -q "Ray runtime started" "$folder/$name.log"; then
      echo "$name is up"
      return
    fi
    kill -0 "$!" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$folder/$name.log" >&2
  "$(dirname "${BASH_SOURCE[0]}")/down" "$name"
  fail "$name did not start; its last lines are above"
}
